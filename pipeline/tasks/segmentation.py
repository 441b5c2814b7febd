"""Segmentation at the size of the labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.imaging.resize import crop_box
from pipeline.data.shards.targets import IGNORE


def full_size_mask(logits: Tensor, size: tuple[int, int], geometry: str) -> Tensor:
    """Logits, float (classes, h, w), enlarged and decided at each pixel of ``size``: uint8 (H, W), on their device.

    `IGNORE` where the network did not look: outside the centre under ``center_crop``.
    """
    height, width = logits.shape[-2:]
    left, top, right, bottom = crop_box(size, (height, width), geometry)
    enlarged = F.interpolate(logits[None].float(), (bottom - top, right - left), mode="bilinear")
    mask = torch.full(size, IGNORE, dtype=torch.uint8, device=logits.device)
    mask[top:bottom, left:right] = enlarged[0].argmax(0).to(torch.uint8)
    return mask
