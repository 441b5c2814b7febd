"""torchvision's ResNet for images of any number of channels."""

from __future__ import annotations

from torch import nn
from torchvision.models import get_model


def resnet(depth: int, channels: int, outputs: int, *, stem: str = "imagenet", stride: int = 32) -> nn.Module:
    """Return a ResNet with random weights.

    Args:
        depth: layers with weights: 18, 34, 50, 101 or 152.
        channels: of an image.
        outputs: logits.
        stem: imagenet, 7x7 with stride 2 and max pooling; or cifar, 3x3 with stride 1 and no pooling.
        stride: pixels of the image to one of the last maps (ImageNet stem), 32 or 8; for 8, which a depth of 50 or
            more can have, the last two stages are dilated.
    """
    dilated = [False, stride == 8, stride == 8]
    network: nn.Module = get_model(
        f"resnet{depth}",
        weights=None,
        num_classes=outputs,
        **({"replace_stride_with_dilation": dilated} if stride == 8 else {}),
    )
    if stem == "cifar":
        first = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        network.maxpool = nn.Identity()
    else:
        first = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = first
    return network
