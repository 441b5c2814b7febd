"""Every network of timm, by its name there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.models.base import NetworkSpec, register
from pipeline.models.libraries.pretrained import LibraryKeys, check_known, downloading

if TYPE_CHECKING:
    from torch import nn


@register
class TimmFamily(LibraryKeys):
    """A classifier of timm, for images of the size that it takes."""

    per_image: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("timm",)
    named: ClassVar[tuple[str, ...]] = ("name",)

    family: Literal["timm"] = "timm"
    name: str
    """A name of `timm.list_models`, such as ``convnext_tiny``; with the tag of its weights where they are wanted."""

    @property
    def label(self) -> str:
        """timm's own name."""
        return self.name

    @property
    def head(self) -> tuple[str, ...]:
        """The layers that timm calls the classifier."""
        from timm.models import get_pretrained_cfg_value

        classifier: str | tuple[str, ...] = get_pretrained_cfg_value(self.name, "classifier")
        names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        return tuple(f"{name}." for name in names)

    def check(self, spec: NetworkSpec) -> None:
        """Refuse a name that timm does not know."""
        from timm import list_models

        super().check(spec)
        # timm itself takes names that begin with hf-hub: or local-dir:, and with them files from anywhere.
        check_known("name", self.name.partition(".")[0], list_models(), "those of timm.list_models()")

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Return timm's network, with its pretrained weights where asked for."""
        from timm import create_model
        from timm.models import get_pretrained_cfg_value

        sized: dict[str, Any] = (
            {"img_size": spec.size} if get_pretrained_cfg_value(self.name, "fixed_input_size") else {}
        )
        with downloading(self):
            network: nn.Module = create_model(
                self.name,
                pretrained=self.pretrained,
                num_classes=spec.outputs,
                in_chans=spec.channels,
                **sized,
            )
        return network

    def inspected(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return the modules that timm lists as features; none where their channels are the last dimension."""
        if getattr(network, "output_fmt", "NCHW") != "NCHW":
            return {}
        features: Any = getattr(network, "feature_info", [])
        return {feature["module"]: network.get_submodule(feature["module"]) for feature in features}
