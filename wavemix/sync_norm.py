"""Batch norm whose statistics are those of all processes' samples together.

Unlike `nn.SyncBatchNorm` it compiles into the graph around it, never makes the host wait for the device, and runs
on a CPU, too. It knows nothing of the network: it serves any module with `nn.BatchNorm2d` in it.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

PIXELS = (0, 2, 3)
"""The dimensions of (B, C, H, W) that a channel's statistics run over."""


def synchronise_batch_norm(network: nn.Module) -> None:
    """Replace every `nn.BatchNorm2d` inside `network` with a `SyncBatchNorm2d`, in place.

    Parameters and buffers are kept, as the same tensors under the same names. So it may be called before or after
    an optimiser is made, but before the network is compiled or wrapped.

    Raises:
        ValueError: `network` is itself a batch norm, or holds a batch norm of another kind.
    """
    if isinstance(network, nn.modules.batchnorm._BatchNorm):
        raise ValueError(
            "synchronise_batch_norm replaces the batch norms inside a network; this is a batch norm"
        )
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module) not in KINDS:
            raise ValueError(
                f"{name} is a {type(module).__name__}, whose statistics cannot be synchronised; "
                "train this network in one process"
            )
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _synchronised(child))


def _synchronised(norm: nn.BatchNorm2d) -> "SyncBatchNorm2d":
    copy = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters():
        setattr(copy, name, parameter)
    for name, buffer in norm.named_buffers():
        setattr(copy, name, buffer)
    return copy.train(norm.training)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the samples of all processes of the default process group.

    Every process must take part in every training step, with at least one sample; how many may differ. Without
    a process group, in one process or in evaluation mode it is exactly `nn.BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape and dtype; statistics are in float32 at least."""
        batch_statistics = self.training or self.running_mean is None
        if not batch_statistics or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        y, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)
        return cast(Tensor, y)


KINDS = (nn.BatchNorm2d, SyncBatchNorm2d)


class _Normalise(torch.autograd.Function):
    """Batch norm with one exchange between processes in each direction; only its input is kept in between."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the normalised maps; mean (C,) and biased variance (C,) of all samples, and their number (C,)."""
        values = _wide(x)
        variance, mean = torch.var_mean(values, PIXELS, correction=0)
        share = torch.full_like(mean, x.numel() // x.shape[1])
        counts, means, variances = _gather(torch.stack([share, mean, variance])).unbind(1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count  # Chan et al. (1979)
        scale = torch.rsqrt(variance + eps)
        context.save_for_backward(x, weight, mean, scale, count)
        context.mark_non_differentiable(mean, variance, count)
        y = (values - _per_channel(mean)) * _per_channel(scale)
        if weight is not None and bias is not None:
            y = y * _per_channel(weight) + _per_channel(bias)
        return y.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias; the latter two of this process's samples alone."""
        x, weight, mean, scale, count = context.saved_tensors
        gradient = _wide(gradients[0])
        y = (_wide(x) - _per_channel(mean)) * _per_channel(scale)
        own = torch.stack([gradient.sum(PIXELS), (gradient * y).sum(PIXELS)])
        shift, slope = _gather(own).sum(0) / count
        dx = (gradient - _per_channel(shift) - y * _per_channel(slope)) * _per_channel(scale)
        if weight is None:
            return dx.to(x.dtype), None, None, None
        return (dx * _per_channel(weight)).to(x.dtype), own[1], own[0], None


def _gather(x: Tensor) -> Tensor:
    """Return the `x` of every process, stacked along a new first dimension."""
    processes = dist.get_world_size()
    gathered = x.new_empty((processes * len(x), *x.shape[1:]))
    dist.all_gather_into_tensor(gathered, x)
    return gathered.reshape(processes, *x.shape)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _per_channel(x: Tensor) -> Tensor:
    """Map (C,) to (C, 1, 1)."""
    return x[:, None, None]
