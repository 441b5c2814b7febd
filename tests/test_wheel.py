"""The network alone: what ``import wavemix`` imports, and what the wheel installs without the pipeline's packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import ROOT

USED = """
import tempfile, torch, wavemix

network = wavemix.create_model("cifar10 64/6").eval()
images = torch.zeros(2, 3, 32, 32)
with tempfile.TemporaryDirectory() as folder:
    wavemix.save(network, folder)
    assert torch.equal(wavemix.load(folder).eval()(images), network(images))
reference = wavemix.create_model("16/1", task="classification", num_classes=3, implementation="reference")
print(sum(parameter.numel() for parameter in network.parameters()))
"""
"""What someone does who wants the network only."""


def base_packages() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [requirement.split("=")[0].split("<")[0].split(">")[0] for requirement in project["dependencies"]]


def test_the_network_needs_none_of_the_pipelines_packages() -> None:
    wanted = "huggingface-hub numpy pytorch-wavelets pywavelets ruamel-yaml safetensors setuptools torch"
    assert base_packages() == wanted.split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    refused = [
        {"opencv-python-headless": "cv2", "scikit-learn": "sklearn", "pillow": "PIL"}.get(name, name).replace(
            "-", "_"
        )
        for name in (
            line.split("=")[0].split(">")[0] for line in project["optional-dependencies"]["pipeline"]
        )
        # torch imports these two where they are installed; it does without.
        if name not in ("fsspec", "tqdm", "psutil")
    ]
    assert "mlflow" in refused
    hook = f"import sys\nfor name in {refused!r}: sys.modules[name] = None\n"
    output = subprocess.check_output([sys.executable, "-c", hook + USED], text=True, cwd=ROOT)
    assert output.split()[-1] == "520106"


@pytest.mark.slow
def test_the_wheel_alone_makes_saves_and_loads_a_network_of_the_paper(tmp_path: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    wheels, environment = tmp_path / "wheels", tmp_path / "environment"
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(ROOT)], check=True)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    python = environment / "bin/python"
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), str(wheel)], check=True)
    output = subprocess.check_output([python, "-c", USED], text=True, cwd=tmp_path)
    assert output.split()[-1] == "520106"
    listed = subprocess.check_output([uv, "pip", "list", "--python", str(python)], text=True, cwd=tmp_path)
    assert not {"mlflow", "dvc", "ray", "albumentations"} & {line.split()[0] for line in listed.splitlines()}
    told = subprocess.run(
        [environment / "bin/wavemix", "doctor"], capture_output=True, text=True, cwd=tmp_path
    )
    assert told.returncode == 1
    assert told.stderr.count("\n") == 1
    assert "run `pip install 'wavemix-lite-pipeline[pipeline]'`" in told.stderr
