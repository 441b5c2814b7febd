"""The graphs that torch.compile hands to Inductor, to look into."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.decomposition import select_decomp_table
from torch.fx import GraphModule, Node


def backward_graph(function: Callable[..., Tensor], images: Tensor) -> list[Node]:
    """Return the operations and inputs of the backward pass, after Inductor's decompositions and partition."""
    seen: list[GraphModule] = []

    def look(graph: GraphModule, _inputs: Any) -> Any:
        seen.append(graph)
        return make_boxed_func(graph.forward)

    backend = aot_autograd(
        fw_compiler=lambda graph, _inputs: make_boxed_func(graph.forward),
        bw_compiler=look,
        decompositions=select_decomp_table(),
        partition_fn=min_cut_rematerialization_partition,
    )
    torch._dynamo.reset()
    result: Any = torch.compile(function, backend=backend, dynamic=False, fullgraph=True)(images)
    result.sum().backward()
    (graph,) = seen
    return list(graph.graph.nodes)


def convolutions(graph: list[Node]) -> list[bool]:
    """Return, for each convolution that is run forward, whether it is a transposed one."""
    return [bool(node.args[6]) for node in graph if node.target == torch.ops.aten.convolution.default]


def kept_bytes(graph: list[Node], batch: int) -> int:
    """Return the bytes per sample of the maps (B, C, H, W) that the backward pass is given."""
    maps = [node.meta["val"] for node in graph if node.op == "placeholder"]
    return sum(x.nbytes for x in maps if isinstance(x, Tensor) and x.ndim == 4 and len(x) == batch) // batch
