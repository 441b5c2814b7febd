"""The way of pixels into a network."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.inputs import normalise, place


def test_normalise_is_mean_and_std_of_pixels_between_0_and_1() -> None:
    image = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    out = normalise(image, [0.5, 0.5, 0.2], [0.25, 0.5, 0.1])
    assert out.shape == (1, 3, 1, 1)
    assert torch.allclose(out.flatten(), torch.tensor([-2.0, 1.0, 0.0]), atol=1e-6)


def test_a_normalised_batch_lies_channels_last() -> None:
    out = normalise(torch.zeros(2, 4, 6, 3, dtype=torch.uint8), [0.0] * 3, [1.0] * 3)
    assert out.shape == (2, 3, 4, 6)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_normalised_in_inference_mode_first_can_be_trained_with_later() -> None:
    image, mean, std = torch.zeros(1, 2, 2, 3, dtype=torch.uint8), [0.11] * 3, [0.99] * 3
    with torch.inference_mode():
        normalise(image, mean, std)
    layer = nn.Conv2d(3, 1, 1)
    layer(normalise(image, mean, std)).sum().backward()
    assert layer.weight.grad is not None


def test_kernels_lie_channels_last_but_for_those_of_one_pixel() -> None:
    wide, narrow = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 6, 1)
    network = nn.Sequential(wide, narrow)
    assert place(network, torch.device("cpu")) is network
    assert wide.weight.stride() == (36, 1, 12, 4)
    assert narrow.weight.stride() == (8, 1, 1, 1)
