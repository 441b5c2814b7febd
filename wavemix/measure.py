"""Counts of parameters, multiply-accumulates and the bytes that a training step keeps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, images: Tensor) -> int:
    """Return the multiply-accumulates of convolutions and matrix products in one forward pass over `images`."""
    from torch.utils.flop_counter import FlopCounterMode  # it loads Triton

    training = model.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(images)
    model.train(training)
    return int(counter.get_total_flops()) // 2


def saved_bytes(model: nn.Module, images: Tensor, amp: torch.dtype | None = None) -> float:
    """Return the bytes of activations per image that a training step keeps for the backward pass.

    Saved-tensor hooks count each storage once. Comparing a batch with half of it leaves out parameters and
    all else that does not grow with the batch. The loss is left out, too.

    Args:
        model: in training mode, eager; its batch norm statistics are updated.
        images: (B, C, H, W), B even.
        amp: the autocast dtype, or None for the parameters' own precision.
    """
    half = len(images) // 2
    whole = _saved_by(lambda: _forward(model, images, amp))
    return (whole - _saved_by(lambda: _forward(model, images[:half].clone(), amp))) / (len(images) - half)


def _forward(model: nn.Module, images: Tensor, amp: torch.dtype | None) -> Any:
    with torch.autocast(images.device.type, dtype=amp, enabled=amp is not None):
        return model(images)


def _saved_by(function: Callable[[], Any]) -> int:
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage  # held, so that no later one can take its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    total = sum(storage.nbytes() for storage in storages.values())
    del result
    return total
