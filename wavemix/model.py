"""The network: stem, blocks, head; built by name ("128/7", "256/16 ff512 mul3") or from a `ModelConfig`."""

from pathlib import Path
from typing import Any, Self, cast

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from torch import Tensor, nn

from wavemix.block import Block
from wavemix.choices import suggest
from wavemix.config import ModelConfig, parse_size
from wavemix.fuse import fused_copy
from wavemix.heads import HEADS
from wavemix.paper import paper_rows
from wavemix.reference import ReferenceBlock
from wavemix.stem import make_stem

BLOCKS: dict[str, type[nn.Module]] = {"fast": Block, "reference": ReferenceBlock}


class WaveMixLite(nn.Module, PyTorchModelHubMixin):
    """The network of the paper for classification and segmentation.

    `save_pretrained`, `from_pretrained` and `push_to_hub` come from huggingface_hub's mixin and write and
    read the same two files as `wavemix.save` and `wavemix.load`.

    Args:
        config: its sizes and variants.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.fused = False
        self.stem: nn.Module = make_stem(config)
        block = BLOCKS[config.implementation]
        self.blocks = nn.Sequential(*(block(config) for _ in range(config.depth)))
        self.head = HEADS[config.task](config)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch of images.

        Args:
            images: float (B, in_channels, H, W), normalised as in training.

        Returns:
            (B, num_classes) for classification, (B, num_classes, H, W) for segmentation.

        Raises:
            ValueError: H or W is too small for the config; see `check_image_size`.
        """
        height, width = images.shape[-2:]
        check_image_size(self.config, height, width)
        # Convolutions are fastest channels last: measured on a CPU, and known of tensor cores.
        x = images.contiguous(memory_format=torch.channels_last)
        logits = cast(Tensor, self.head(self.blocks(self.stem(x))))
        return logits if logits.ndim == 2 else logits[..., :height, :width]

    def fuse(self) -> "WaveMixLite":
        """Return a copy for inference, in evaluation mode, that gives the same logits faster: see `wavemix.fuse`."""
        if self.fused:
            return self
        model = fused_copy(self)
        model.fused = True
        return model

    def train(self, mode: bool = True) -> Self:
        """Set training mode or, with False, evaluation mode.

        Raises:
            ValueError: training mode of a fused network, which has no batch norm left.
        """
        if mode and self.fused:
            raise ValueError("a fused model is for inference only: train the model that fuse() was called on")
        return super().train(mode)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, map_location: str = "cpu", **keywords: Any) -> Self:
        """Load as `wavemix.load` does.

        The mixin would build whatever network the config asks for, leave tensors that the file lacks at random
        and unpickle the weights of a repository without safetensors.
        """
        from wavemix.weights import WEIGHTS_FILE, load_weights

        path = Path(model_id) / WEIGHTS_FILE
        if not Path(model_id).is_dir():
            names = ("revision", "cache_dir", "force_download", "token", "local_files_only")
            options = {name: keywords[name] for name in names}
            path = Path(hf_hub_download(model_id, WEIGHTS_FILE, **options))
        return cast(Self, load_weights(keywords["config"], path).to(map_location).eval())


def check_image_size(config: ModelConfig, height: int, width: int) -> None:
    """Raise ValueError, naming the allowed sizes, unless images of `height` x `width` pixels suit the config.

    Odd sizes do: the wavelet pads with zeros and each block crops back. Too small is an image of which the stem
    leaves less than one pixel of the deepest level. For segmentation, the patches of a patch stem must tile it.
    """
    smallest = (config.scale - 1) * config.stem_factor + 1
    if config.patch_size is not None:
        smallest = config.scale * config.patch_size
    if min(height, width) < smallest:
        raise ValueError(
            f"images of {height}x{width} are too small for {config.levels} level(s) of the wavelet after a "
            f"stem that divides by {config.stem_factor}: both sides must be at least {smallest}"
        )
    patch = config.patch_size or 1
    if config.task == "segmentation" and (height % patch or width % patch):
        raise ValueError(
            f"images of {height}x{width} do not divide into patches of {patch}: for segmentation "
            f"both sides must be multiples of {patch}"
        )


def create_model(
    name: str, *, task: str | None = None, num_classes: int | None = None, **keywords: Any
) -> WaveMixLite:
    """Build a network by name.

    Args:
        name: a size D/N [ffX] [mulY], as the paper writes them ("128/7", "256/16 ff512 mul3"), or a row of
            the paper's tables ("cifar10 64/6"; all are in `paper_rows()`).
        task: "classification" or "segmentation"; None: the row's.
        num_classes: number of classes; None: the row's.
        **keywords: any other field of `ModelConfig`.

    Raises:
        ValueError: an unknown name, or a keyword or value that is not allowed.
    """
    given = {"task": task, "num_classes": num_classes}
    keywords |= {key: value for key, value in given.items() if value is not None}
    try:
        named: dict[str, Any] = parse_size(name)
    except ValueError:
        rows = paper_rows()
        if name not in rows:
            known = [*rows, *(row.partition(" ")[2] for row in rows)]
            raise ValueError(
                f"unknown model {name!r}{suggest(name, known)}; write a size D/N [ffX] [mulY], for example "
                "'256/16 ff512 mul3', or the name of a row of paper.yaml"
            ) from None
        named = rows[name].config.to_dict()
    return build_model(ModelConfig.from_dict(named | keywords))


def build_model(config: ModelConfig) -> WaveMixLite:
    """Build the network of a config, initialised with PyTorch's defaults."""
    return WaveMixLite(config)
