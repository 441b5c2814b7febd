"""A trained network as one file for other runtimes: uint8 pixels in, logits of the classes out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.checkpoints.trained import DESCRIPTION, Trained, load_trained
from pipeline.core.errors import UserError, did_you_mean
from pipeline.models.inputs import normalise
from wavemix.weights import CONFIG_FILE, WEIGHTS_FILE


class Deployed(nn.Module):
    """The network between its surroundings: normalisation before it, the output for void cut off behind it."""

    def __init__(self, model: nn.Module, trained: Trained) -> None:
        super().__init__()
        self.model = model
        self.mean, self.std, self.classes = trained.mean, trained.std, len(trained.class_names)

    def forward(self, image: Tensor) -> Tensor:
        """Map uint8 (B, H, W, C), RGB or grey, to float logits (B, classes) or (B, classes, H, W)."""
        logits: Tensor = self.model(normalise(image, self.mean, self.std))
        return logits[:, : self.classes]


def export(checkpoint: Path, kind: str, out: Path) -> Path:
    """Write the network in ``checkpoint`` as ``kind``, one of `EXPORTS`, to the folder ``out``.

    The batch may have any size, the images have the network's own (height, width).

    Raises:
        UserError: an unknown kind, no checkpoint, or a package that is missing.
    """
    if kind not in EXPORTS:
        raise UserError(f"--format {kind}{did_you_mean(kind, EXPORTS)}: allowed are {', '.join(EXPORTS)}")
    out.mkdir(parents=True, exist_ok=True)
    return EXPORTS[kind](checkpoint, out)


def _export_onnx(checkpoint: Path, out: Path) -> Path:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError("ONNX needs packages of its own: run `uv sync --extra export` first") from None
    path = out / "model.onnx"
    deployed, example, batch = _deployed(checkpoint)
    program = torch.onnx.export(
        deployed,
        (example,),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: batch}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(path))
    return path


def _export_torch(checkpoint: Path, out: Path) -> Path:
    path = out / "model.pt2"
    deployed, example, batch = _deployed(checkpoint)
    torch.export.save(torch.export.export(deployed, (example,), dynamic_shapes={"image": {0: batch}}), path)
    return path


def _export_safetensors(checkpoint: Path, out: Path) -> Path:
    load_trained(checkpoint)
    for name in (WEIGHTS_FILE, CONFIG_FILE, DESCRIPTION):
        shutil.copyfile(checkpoint / name, out / name)
    return out / WEIGHTS_FILE


def _deployed(checkpoint: Path) -> tuple[Deployed, Tensor, Any]:
    """Return the module to trace, an example of two images (a batch of one would fix it to one), the batch's name."""
    loaded = load_trained(checkpoint)
    trained = loaded.trained
    example = torch.zeros(2, *trained.size, trained.channels, dtype=torch.uint8)
    return (
        Deployed(loaded.for_inference(), trained).eval(),
        example,
        torch.export.Dim("batch", min=1, max=65536),
    )


EXPORTS: dict[str, Callable[[Path, Path], Path]] = {
    "onnx": _export_onnx,
    "torch": _export_torch,
    "safetensors": _export_safetensors,
}
"""What the network can be written as: ONNX, torch.export's .pt2, or the checkpoint's own files."""
