"""Recomputed statistics of batch norm: those of all inputs pooled, as by hand and as torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from pipeline.models.batch_norm import batch_norms, recompute_statistics


def stacked(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(dropout), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
    )  # fmt: skip


def statistics(network: nn.Module) -> list[torch.Tensor]:
    return [
        tensor
        for norm in batch_norms(network)
        for tensor in (norm.running_mean, norm.running_var)
        if tensor is not None
    ]


def test_batches_of_any_size_are_pooled() -> None:
    norm = nn.BatchNorm2d(2)
    batches = [torch.randn(size, 2, 3, 4) * 5 + 30 for size in (7, 1, 3)]
    recompute_statistics(norm, iter(batches))
    values = torch.cat(batches).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, values.mean(1))
    torch.testing.assert_close(norm.running_var, values.var(1))
    assert not norm.training


def test_every_norm_of_a_stack_has_what_torch_gives_it() -> None:
    ours, theirs = stacked(), stacked()
    batch = torch.randn(16, 3, 8, 8)
    recompute_statistics(ours, [batch])
    update_bn([batch], theirs)
    for one, other in zip(statistics(ours), statistics(theirs), strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_is_off_and_no_random_number_is_drawn() -> None:
    with_dropout, without = stacked(0.5), stacked(0.0)
    batch = torch.randn(16, 3, 8, 8)
    before = torch.get_rng_state()
    for network in (with_dropout, without):
        recompute_statistics(network, [batch])
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(statistics(with_dropout), statistics(without), strict=True):
        assert torch.equal(one, other)


def test_parts_of_two_processes_add_up() -> None:
    batch = torch.randn(10, 3, 8, 8)
    norm, part = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    recompute_statistics(norm, [batch])
    other = torch.stack([
        torch.full((3,), 4 * 64.0), batch[:4].sum((0, 2, 3)), batch[:4].square().sum((0, 2, 3))
    ]).double()  # fmt: skip
    recompute_statistics(part, [batch[4:]], lambda sums: sums + other)
    for one, whole in zip(statistics(part), statistics(norm), strict=True):
        torch.testing.assert_close(one, whole)


@pytest.mark.parametrize("batches", [[], None])
def test_nothing_to_do_leaves_the_network_as_it_is(batches: list[torch.Tensor] | None) -> None:
    network = stacked() if batches is not None else nn.Sequential(nn.Conv2d(3, 4, 3))
    before = copy.deepcopy(network.state_dict())
    recompute_statistics(network, batches or [torch.randn(2, 3, 8, 8)] * (batches is None))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
