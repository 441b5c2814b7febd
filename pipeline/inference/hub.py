"""A trained network as a repository of the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from pipeline.checkpoints.trained import DESCRIPTION, load_trained
from pipeline.core.atomic import atomic_folder
from pipeline.core.errors import UserError, one_line
from pipeline.inference.model_card import figures_of, model_card
from wavemix.weights import CONFIG_FILE, WEIGHTS_FILE

CARD = "README.md"


def check_repository(name: str) -> None:
    """Refuse what cannot be a repository's name.

    Raises:
        UserError: says what is wrong with it.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"push: {one_line(error)}") from None
    if "/" not in name:
        raise UserError(f"push: got {name}, allowed: OWNER/NAME")


def write_repository(
    checkpoint: Path, repository: str, out: Path, licence: str | None, params: str | None
) -> Path:
    """Write what `push` sends as the folder ``out``, whole or not at all: weights, config, description and card.

    Args:
        params: the params.yaml that the network was trained with, where that is known.

    Raises:
        UserError: there is no trained network in ``checkpoint``.
    """
    loaded = load_trained(checkpoint)
    measured = figures_of(loaded.trained, Path("reports/metrics.json"))
    with atomic_folder(out) as part:
        for name in (WEIGHTS_FILE, CONFIG_FILE, DESCRIPTION):
            shutil.copyfile(checkpoint / name, part / name)
        card = model_card(loaded, repository, licence, measured, params)
        (part / CARD).write_text(card, encoding="utf-8")
    return out


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Create ``repository`` where it is missing, send ``folder`` as one commit, and return its address.

    Raises:
        UserError: nobody is logged in, the repository is another's, or the hub is not responding.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="A trained network")
    except Exception as error:  # the hub's, and those of each transport
        raise UserError(
            f"push: {one_line(error)}; log in by `hf auth login` or set HF_TOKEN; what would be sent lies in {folder}"
        ) from None
    return str(address)
