"""Rows of D and minibatches of them against plain indexing."""

import pytest
import torch
from behavior_helpers import generator

from lit_maprops.behavior.update.rows import Rows, RowStore
from lit_maprops.behavior.update.samples import Minibatch

G, C, U = 3, 2, 9  # stops, networks of each, rows


def rows_of(steps: int = U) -> tuple[Rows, list[torch.Tensor]]:
    """Stored in three pieces; with the tensors that were stored."""
    draw = generator(1)
    given = [
        torch.randn(G * C, steps, 4, generator=draw),
        torch.randn(G, 2, 3, steps, generator=draw),
        torch.randint(5, (G, 2, steps), generator=draw),
        torch.randn(G, steps, generator=draw),
    ]
    store = RowStore()
    for part in zip(given[0].tensor_split(3, 1), *(fact.tensor_split(3, -1) for fact in given[1:]), strict=True):
        store.append(*part)
    return store.samples(), given


@pytest.mark.parametrize("steps", [U, 300])  # the second outgrows the store's memory
def test_stored_rows_are_those_given(steps):
    rows, given = rows_of(steps)
    for own, expected in zip((rows.inputs, *rows.facts), given, strict=True):
        assert torch.equal(own, expected)
    torch.testing.assert_close(rows.weight, torch.full((G, steps), 1 / steps))


def test_minibatches_take_the_same_rows_of_everything():
    rows, (inputs, *facts) = rows_of()
    chosen = torch.stack([torch.randperm(U, generator=generator(g))[:4] for g in range(G)])
    part = rows.take(Minibatch(chosen, torch.full((1, 4), U / 4)))
    torch.testing.assert_close(part.weight, torch.full((G, 4), 1 / 4))
    for g in range(G):
        for number, row in enumerate(chosen[g].tolist()):
            for network in range(g * C, (g + 1) * C):
                assert torch.equal(part.inputs[network, number], inputs[network, row])
            for own, fact in zip(part.facts, facts, strict=True):
                assert torch.equal(own[g, ..., number], fact[g, ..., row])
    assert rows.take(None) is rows


def test_entries_keep_their_networks():
    rows, (inputs, *facts) = rows_of()
    part = rows.entries(torch.tensor([2, 0]))
    assert torch.equal(part.inputs, inputs[[4, 5, 0, 1]])
    assert all(torch.equal(own, fact[[2, 0]]) for own, fact in zip(part.facts, facts, strict=True))
