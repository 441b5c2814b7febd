"""Records what the authors' networks answer, for test_authors.py. Run it in an environment of its own:

    uv venv authors && uv pip install --python authors wavemix "numpy<2" "setuptools<81"
    authors/bin/python tests/oracles/record_authors.py

Only numbers are kept: names and shapes of the tensors, seeds, a hash of the input, the logits.
"""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FIXTURE = Path(__file__).parent / "authors.json"
SMALL = {"depth": 2, "mult": 3, "ff_channel": 12, "final_dim": 16}


def fill(shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """A state dict of the given shapes whose values depend on the seed alone."""
    random = np.random.RandomState(seed)  # frozen by NumPy's promise: the same stream in every version
    state: dict[str, Tensor] = {}
    for name in sorted(shapes):
        values = random.standard_normal(shapes[name])
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = torch.from_numpy(0.5 + np.abs(values)).float()
        else:
            scale = 0.2 if len(shapes[name]) > 1 else 0.5
            state[name] = torch.from_numpy(values * scale).float()
    return state


def images(size: list[int], seed: int) -> Tensor:
    """Images (2, 3, height, width)."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((2, 3, *size))).float()


def digest(tensor: Tensor) -> str:
    """Hash of a float tensor's values."""
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]


def record(module: str, seed: int, size: list[int], **keywords: Any) -> dict[str, Any]:
    """One case: the network, its input and the first logits of each class."""
    model = importlib.import_module(f"wavemix.{module}").WaveMix(**SMALL, **keywords)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(fill(shapes, seed))
    x = images(size, seed)
    with torch.no_grad():
        logits = model.eval()(x)
    return {
        "module": module,
        "keywords": keywords,
        "seed": seed,
        "size": size,
        "images": digest(x),
        "shapes": shapes,
        "shape": list(logits.shape),
        "logits": np.asarray(logits.flatten()[:: max(1, logits.numel() // 40)], dtype=np.float64).tolist(),
    }


def main() -> None:
    """Writes the fixture."""
    cases = []
    for level in (1, 2, 3, 4):
        strided: dict[str, Any] = {"num_classes": 5, "level": level, "initial_conv": "strided"}
        cases.append(record("classification", level, [32, 32], **strided, stride=1))
        cases.append(record("classification", 10 + level, [64, 128], **strided, stride=2))
        patches = {"num_classes": 5, "level": level, "initial_conv": "pachify", "patch_size": 4}
        cases.append(record("classification", 20 + level, [64, 64], **patches))
        cases.append(record("SemSegment", 30 + level, [64, 128], num_classes=4, level=level, stride=2))
    FIXTURE.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
