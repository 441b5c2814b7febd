"""WaveMix-Lite, the network alone: build it, load and save its weights, fuse it for inference."""

from wavemix.config import ModelConfig
from wavemix.model import WaveMixLite, build_model, check_image_size, create_model
from wavemix.paper import PaperRow, paper_rows
from wavemix.weights import load, load_authors_state_dict, save

__all__ = [
    "ModelConfig",
    "PaperRow",
    "WaveMixLite",
    "build_model",
    "check_image_size",
    "create_model",
    "load",
    "load_authors_state_dict",
    "paper_rows",
    "save",
]
