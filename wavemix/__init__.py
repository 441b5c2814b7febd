"""WaveMix-Lite as a library of its own."""

from wavemix.config import ModelConfig
from wavemix.model import WaveMixLite, build_model, check_image_size, create_model

__all__ = ["ModelConfig", "WaveMixLite", "build_model", "check_image_size", "create_model"]
