"""Tokens that are shown as maps."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.features import as_map


def test_tokens_become_a_map_row_by_row() -> None:
    tokens = torch.arange(8).view(1, 8, 1)
    assert as_map(tokens, 0.5).tolist() == [[[[0, 1, 2, 3], [4, 5, 6, 7]]]]


def test_a_class_token_is_left_out() -> None:
    tokens = torch.arange(5).view(1, 5, 1)
    assert as_map(tokens, 1.0).tolist() == [[[[1, 2], [3, 4]]]]


def test_channels_come_first_in_a_map() -> None:
    tokens = torch.tensor([[[1, 10], [2, 20]]])
    assert as_map(tokens, 2.0).tolist() == [[[[1], [2]], [[10], [20]]]]


def test_maps_stay_as_they_are() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert as_map(maps, 1.0) is maps


def test_tokens_that_lie_on_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="7 tokens do not lie on a grid"):
        as_map(torch.zeros(1, 7, 1), 1.0)
