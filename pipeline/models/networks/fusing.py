"""Batch norm merged into the convolution before it, which a network for inference does without."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def without_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy of ``network`` in evaluation mode, for inference only, that gives the same logits faster.

    A batch norm is taken to follow the convolution that was registered right before it, as in ResNet, MobileNetV2 and
    UNet; networks that are built otherwise must not be given.
    """
    fused = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(fused.modules()):
        for (name, convolution), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, norm_name, nn.Identity())
    return fused
