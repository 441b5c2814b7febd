"""WaveMix-Lite, and the full WaveMix, from the library `wavemix`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pipeline.models.base import Depth, Family, NetworkSpec, Share, Width, numbered_blocks, register

if TYPE_CHECKING:
    from torch import nn

    from wavemix import ModelConfig

LARGEST_SMALL_IMAGE = 96
"""Pixels on the shorter side up to which the stem keeps the size."""


class WaveMixKeys(Family):
    """The keys of both families (see `wavemix.ModelConfig`); outputs and channels come from the data."""

    per_image: ClassVar[bool] = True
    per_pixel: ClassVar[bool] = True
    lean: ClassVar[bool] = True

    dim: Width
    """Embedding dimension D of "D/N", a multiple of 4."""
    depth: Depth
    """Blocks N of "D/N"."""
    mult: Width = 2
    """Width of the MLP's hidden layer over ``dim`` (the paper's mul)."""
    ff: Width | None = None
    """Channels that the MLP hands to the transposed convolution; ``dim`` when null (appendix A)."""
    dropout: Share = 0.5
    """Share of the MLP's hidden values dropped in training."""
    expansion: str = "deconvolution"
    """How a block returns to full resolution: deconvolution, bilinear, bicubic or idwt."""
    levels: Width = 1
    """Levels of the wavelet transform, 1 to 4 (Table 8)."""
    wavelet: str = "haar"
    """A discrete wavelet that PyWavelets knows."""
    learnable: bool = False
    """Train the wavelet's filters, starting from the named one."""
    mixer: str = "dwt"
    """What mixes the pixels: dwt, or an ablation of section 4.7: none, dft, maxpool."""
    stem_stride: Width | None = None
    """Stride of both stem convolutions; null is 2 for segmentation and for images of more than 96 pixels, else 1."""
    patch_size: Width | None = None
    """Side in pixels of the patches of the authors' patch stem; null is the paper's strided stem."""

    implementation: str = "fast"
    """The block's code: fast, or reference, the paper's block in plain words; the weights are the same."""
    wavelet_mode: str = "zero"
    """Border of the wavelet transform: zero; with the reference also symmetric, reflect, periodic, periodization."""

    def config(self, spec: NetworkSpec) -> ModelConfig:
        """Return what fixes the network.

        Raises:
            ValueError: a key's value is not allowed, or two do not go together.
        """
        from wavemix import ModelConfig

        return ModelConfig(
            task="segmentation" if spec.spatial else "classification",
            num_classes=spec.outputs,
            in_channels=spec.channels,
            memory=spec.memory,
            **self.model_dump(exclude={"stem_stride"}),
            stem_stride=self.stem_stride or self._stem_stride(spec),
        )

    @property
    def description(self) -> str:
        """`label` in the grammar of the paper's tables, and what differs from the paper: ``WaveMix-Lite 32/7 ff64``."""
        values = self.model_dump(exclude_defaults=True, exclude={"family", "dim", "depth", "stem_stride"})
        short = {"ff": "ff{}", "mult": "mul{}", "expansion": "{}"}
        parts = (short.get(key, f"{key} {{}}").format(value) for key, value in values.items())
        return " ".join([self.label, *parts])

    def resolved(self, spec: NetworkSpec) -> Self:
        """Return the same keys with the stride of the stem."""
        return self.model_copy(update={"stem_stride": self.config(spec).stem_stride})

    def _stem_stride(self, spec: NetworkSpec) -> int:
        """Return the paper's: 1 up to 96 pixels (STL-10), 2 beyond and for Cityscapes (section 4.3)."""
        large = spec.spatial or min(spec.size) > LARGEST_SMALL_IMAGE
        return 2 if large and self.patch_size is None else 1

    def check(self, spec: NetworkSpec) -> None:
        """Refuse keys that do not go together, and images too small for the stem and the wavelet's levels."""
        from wavemix import check_image_size

        check_image_size(self.config(spec), *spec.size)

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return a `wavemix.WaveMixLite`."""
        from wavemix import build_model

        return build_model(self.config(spec))

    def for_inference(self, network: nn.Module) -> nn.Module:
        """Return a fused copy, which gives the same logits faster (see `wavemix.fuse`)."""
        from wavemix import WaveMixLite

        assert isinstance(network, WaveMixLite)
        return network.fuse()

    def compile_options(self, network: nn.Module, device_type: str, *, graphs: bool) -> dict[str, bool]:
        """Return the options of the switches in force (see `wavemix.switches`)."""
        from wavemix import WaveMixLite, switches

        assert isinstance(network, WaveMixLite)
        return switches.compile_options(network.config, device_type, graphs=graphs)

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the blocks (the paper's Figure 3)."""
        return numbered_blocks(network.get_submodule("blocks"))

    def saved_config(self, spec: NetworkSpec) -> dict[str, Any]:
        """Return the fields of `wavemix.ModelConfig`, so that `wavemix.load` reads the same files."""
        return self.config(spec).to_dict()


@register
class WaveMixLiteFamily(WaveMixKeys):
    """WaveMix-Lite, the network of the paper."""

    family: Literal["wavemix-lite"] = "wavemix-lite"

    @property
    def label(self) -> str:
        """The paper's name for it: ``WaveMix-Lite 64/4``."""
        return f"WaveMix-Lite {self.dim}/{self.depth}"


@register
class WaveMixFamily(WaveMixKeys):
    """WaveMix, the authors' full network: a pyramid over the levels."""

    family: Literal["wavemix"] = "wavemix"

    @property
    def label(self) -> str:
        """``WaveMix 64/4``."""
        return f"WaveMix {self.dim}/{self.depth}"
