"""Batch norm over several processes against one process that has all the samples."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from wavemix import create_model
from wavemix.measure import saved_bytes
from wavemix.sync_norm import SyncBatchNorm2d, synchronise_batch_norm

SHARES = {2: (4, 3), 3: (1, 4, 2)}
KEYWORDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no parameters": {"affine": False},
    "no running statistics": {"track_running_stats": False},
    "cumulative average": {"momentum": None},
}


def samples() -> tuple[Tensor, Tensor]:
    """Return 7 samples (mean 50, deviation 3: sums of squares cancel) and the gradient of the output."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 6, 5, 4, generator=generator) * 3 + 50
    return x, torch.randn(7, 6, 5, 4, generator=generator)


def two_steps(norm: nn.Module, call: Any, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Return output, gradients and statistics after two training steps."""
    x = x.clone().requires_grad_()
    for _ in range(2):
        norm.zero_grad()
        x.grad = None
        y = call(x)
        y.backward(gradient)
    assert x.grad is not None
    found = {"output": y.detach(), "dx": x.grad, **norm.state_dict()}
    return found | {f"d {name}": p.grad for name, p in norm.named_parameters() if p.grad is not None}


def make(kind: str) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(6, **KEYWORDS[kind])
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 2, generator=torch.Generator().manual_seed(1))
    return norm


def run_process(rank: int, folder: Path, forms: dict[int, list[str]]) -> None:
    """Write what this process's share of the samples gives in groups of several sizes."""
    torch.set_num_threads(1)
    for world in [world for world in forms if rank < world]:
        dist.init_process_group("gloo", init_method=f"file://{folder}/{world}", rank=rank, world_size=world)
        start = sum(SHARES[world][:rank])
        x, gradient = (tensor[start : start + SHARES[world][rank]] for tensor in samples())
        for form, kind in itertools.product(forms[world], KEYWORDS):
            network = nn.Sequential(make(kind))
            synchronise_batch_norm(network)
            call = network if form == "eager" else torch.compile(network, fullgraph=True, backend=form)
            torch.save(two_steps(network[0], call, x, gradient), folder / f"{world} {form} {kind} {rank}")
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "forms",
    [
        pytest.param({2: ["eager"], 3: ["eager"]}, id="eager"),
        pytest.param({2: ["aot_eager", "inductor"]}, id="compiled", marks=pytest.mark.slow),
    ],
)
def test_processes_with_unequal_shares_are_one_process_with_all(
    forms: dict[int, list[str]], tmp_path: Path
) -> None:
    multiprocessing: Any = torch.multiprocessing
    multiprocessing.spawn(run_process, (tmp_path, forms), nprocs=max(forms))
    for world, kind in itertools.product(forms, KEYWORDS):
        expected = two_steps(one := make(kind), one, *samples())
        for form in forms[world]:
            parts = [torch.load(tmp_path / f"{world} {form} {kind} {rank}") for rank in range(world)]
            for name, value in expected.items():
                found = joined(name, [part[name] for part in parts])
                assert found.dtype == value.dtype
                torch.testing.assert_close(
                    found, value, atol=1e-4, rtol=1e-4, msg=f"{world} {form} {kind}: {name}"
                )


def joined(name: str, values: list[Tensor]) -> Tensor:
    """Return what the processes' values are together."""
    if name in ("output", "dx"):
        return torch.cat(values)
    if name.startswith("d "):
        return torch.stack(values).sum(0)
    assert all(torch.equal(value, values[0]) for value in values)
    return values[0]


def test_compiles_whole_and_asks_the_device_for_no_number() -> None:
    dist.init_process_group(
        "fake", store=FakeStore(), rank=0, world_size=2
    )  # gathers nothing, waits for nobody
    try:
        network = nn.Sequential(make("plain"))
        synchronise_batch_norm(network)
        x, gradient = samples()
        torch._dynamo.reset()
        # With a number read from the device, as by `.item()`, the graph could not be whole.
        y = torch.compile(network, fullgraph=True, backend="aot_eager")(x.requires_grad_())
        y.backward(gradient)
        assert x.grad is not None
    finally:
        dist.destroy_process_group()


def test_keeps_what_plain_batch_norm_keeps() -> None:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        kept = []
        for synchronise in (False, True):
            network = nn.Sequential(nn.BatchNorm2d(8))
            if synchronise:
                synchronise_batch_norm(network)
            kept.append(saved_bytes(network, torch.randn(4, 8, 6, 6, dtype=torch.bfloat16)))
        assert kept == [8 * 6 * 6 * 2] * 2
    finally:
        dist.destroy_process_group()


def test_a_process_alone_has_plain_batch_norm() -> None:
    x, gradient = samples()
    network = nn.Sequential(make("plain"))
    synchronise_batch_norm(network)
    expected = two_steps(one := make("plain"), one, x, gradient)
    found = two_steps(network[0], network, x, gradient)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_replacing_keeps_names_tensors_and_mode() -> None:
    model = create_model("8/2", task="classification", num_classes=3, patch_size=4).eval()
    before = model.state_dict(keep_vars=True)
    for _ in range(2):  # a second time changes nothing
        synchronise_batch_norm(model)
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is tensor for name, tensor in before.items())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 3
    assert all(isinstance(norm, SyncBatchNorm2d) and not norm.training for norm in norms)


def test_other_batch_norms_are_refused_before_anything_changes() -> None:
    class Activated(nn.BatchNorm2d):
        pass

    network = nn.Sequential(nn.BatchNorm2d(4), Activated(4))
    with pytest.raises(ValueError, match="1 is a Activated, whose statistics cannot be synchronised"):
        synchronise_batch_norm(network)
    assert type(network[0]) is nn.BatchNorm2d
    with pytest.raises(ValueError, match="inside a network"):
        synchronise_batch_norm(nn.BatchNorm2d(4))
