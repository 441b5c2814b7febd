"""DeepLabV2 (Chen et al., arXiv:1606.00915): a dilated ResNet and a pyramid of dilated convolutions."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.networks.resnet import resnet

RATES = (6, 12, 18, 24)
"""Dilations of the pyramid (ASPP-L)."""


class DeepLabV2(nn.Module):
    """The network without its conditional random field.

    Args:
        depth: of the ResNet: 50, 101 or 152.
        channels: of an image.
        outputs: logits per pixel.
    """

    def __init__(self, depth: int, channels: int, outputs: int) -> None:
        super().__init__()
        layers = OrderedDict(resnet(depth, channels, outputs, stride=8).named_children())
        classifier = layers.pop("fc")
        layers.pop("avgpool")
        assert isinstance(classifier, nn.Linear)
        width = classifier.in_features
        self.body = nn.Sequential(layers)
        self.head = nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=rate, dilation=rate) for rate in RATES)

    def forward(self, images: Tensor) -> Tensor:
        """Map float (B, channels, H, W) to (B, outputs, H, W): decided at an eighth of the size, then enlarged."""
        features = self.body(images)
        logits = torch.stack([branch(features) for branch in self.head]).sum(0)
        return F.interpolate(logits, images.shape[-2:], mode="bilinear")
