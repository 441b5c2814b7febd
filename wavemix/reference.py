"""The WaveMix-Lite block in the paper's own words (section 3.2), on pytorch_wavelets: slow, and easy to change.

It has the state dict of `wavemix.block.Block` and gives the same result. Start research here; the fast block is
tested against it.
"""

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavemix.config import ModelConfig


class ReferenceBlock(nn.Module):
    """Reduce, transform, mix the channels, expand, normalise, add: one layer for each."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.mult * config.dim
        self.levels, self.scale = config.levels, config.scale
        self.reduction = nn.Conv2d(dim, dim // 4, 1)
        self.transform = Transform(config)
        layers = {
            "widen": nn.Conv2d(dim, hidden, 1),
            "activation": nn.GELU(),
            "dropout": nn.Dropout(config.dropout),
            "narrow": nn.Conv2d(hidden, config.feedforward, 1),
            "expansion": _expansion(config),
            "norm": nn.BatchNorm2d(dim),
        }
        self.feedforwards = nn.ModuleDict({str(config.levels): nn.ModuleDict(layers)})
        # A filter longer than Haar's two taps also sees as many pixels before the image as after it.
        centred = config.expansion != "idwt" and config.wavelet_mode != "periodization"
        self.start = (self.transform.taps - 2) // 2 * (config.scale - 1) if centred else 0

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        layers = cast(nn.ModuleDict, self.feedforwards[str(self.levels)])
        y = self.transform(self.reduction(x))
        y = layers["narrow"](layers["dropout"](layers["activation"](layers["widen"](y))))
        y = layers["expansion"](y)
        height, width = x.shape[-2:]  # the transform pads, so the maps may have become larger
        y = y[..., self.start : self.start + height, self.start : self.start + width]
        return cast(Tensor, layers["norm"](y)) + x


class Transform(nn.Module):
    """The discrete wavelet transform over all levels; only the deepest level's sub-bands are used (Table 8)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.levels, self.mode = config.levels, config.wavelet_mode
        self.filters = Filters(_pytorch_wavelets().DWTForward(1, config.wavelet))
        self.taps = next(self.filters.buffers()).numel()

    def forward(self, x: Tensor) -> Tensor:
        """Return the four sub-bands: every LL first, then LH, HL and HH of each channel.

        (B, C, H, W) -> (B, 4 C, h, w), in the precision of the filters.
        """
        filters = list(self.filters.buffers())
        with torch.autocast(x.device.type, enabled=False):
            low = x.to(filters[0].dtype)
            for _ in range(self.levels):
                # The library's modules differentiate every border as if it were zeros; its functions do not.
                bands = _pytorch_wavelets().lowlevel.afb2d(low, filters, self.mode).unflatten(1, (-1, 4))
                low = bands[:, :, 0]
            return torch.cat([low, bands[:, :, 1:].flatten(1, 2)], dim=1)


class InverseTransform(nn.Module):
    """The inverse transform: of `dim` channels as approximations, or of 4 dim as all four sub-bands."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dim, self.levels, self.mode = config.dim, config.levels, config.wavelet_mode
        self.filters = Filters(_pytorch_wavelets().DWTInverse(config.wavelet))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim or 4 dim, h, w) to (B, dim, about 2^levels h, about 2^levels w)."""
        filters = list(self.filters.buffers())
        with torch.autocast(x.device.type, enabled=False):
            bands = x.to(filters[0].dtype).reshape(x.shape[0], self.dim, -1, *x.shape[2:])
            low, *details = bands.unbind(2)
            for _ in range(self.levels):
                details = details or [torch.zeros_like(low)] * 3
                low, details = _pytorch_wavelets().lowlevel.sfb2d(low, *details, filters, self.mode), []
            return low


class Filters(nn.Module):
    """The fixed filters of a transform, moved with the network but not saved: the fast block saves none."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        for name, buffer in transform.named_buffers():
            self.register_buffer(name, buffer, persistent=False)


def _expansion(config: ModelConfig) -> nn.Module:
    """Return the layer from (B, ff, h, w) to (B, dim, 2^levels h, 2^levels w)."""
    scale = config.scale
    if config.expansion == "deconvolution":
        return nn.ConvTranspose2d(config.feedforward, config.dim, scale + 2, stride=scale, padding=1)
    if config.expansion == "idwt":
        return InverseTransform(config)
    return nn.Upsample(scale_factor=scale, mode=config.expansion, align_corners=False)


def _pytorch_wavelets() -> Any:
    """Import pytorch_wavelets' transforms, which nothing else needs."""
    with warnings.catch_warnings(action="ignore"):  # about a module of setuptools that will be removed
        import pytorch_wavelets.dwt.transform2d as transforms

        return transforms
