"""CUDA graphs, pretended: what is copied, what is held, when it is recorded anew, and what happens if it fails."""

import copy

import pretend_graphs
import pytest
import torch
from torch import Tensor

from lit_maprops.stacked import graphs
from lit_maprops.stacked.graphs import Graphed

calls: list[tuple[int, ...]] = []


def scaled_and_counted(given, held, factor=2.0):
    """Twice the sum of two numbers; what is held counts the calls."""
    calls.append(tuple(given[0].shape))
    total = given[0] + given[1]
    held[0].add_(1)
    return factor * total, held[0].clone()


@pytest.fixture(autouse=True)
def forget_calls():
    calls.clear()


def call(graphed: Graphed, value: float, held: Tensor, *settings: float, size: int = 3) -> tuple[list[float], float]:
    total, counted = graphed([torch.full((size,), value), torch.ones(size)], [held], *settings)
    return total.tolist(), counted.item()


def test_elsewhere_it_is_called():
    held, graphed = torch.zeros(()), Graphed(scaled_and_counted, "sums")
    for number in (1.0, 2.0, 3.0):
        assert call(graphed, number, held) == ([2 * number + 2] * 3, number)
    assert len(calls) == 3


def test_the_first_call_runs_the_second_records_and_the_others_replay(monkeypatch):
    counts = pretend_graphs.use(monkeypatch)
    held, graphed = torch.zeros(()), Graphed(scaled_and_counted, "sums")
    for number in (1.0, 2.0, 3.0, 4.0):
        assert call(graphed, number, held) == ([2 * number + 2] * 3, number)  # each counted once
    assert len(calls) == 2 and counts == {"recordings": 1, "replays": 3}


def test_results_are_the_callers(monkeypatch):
    pretend_graphs.use(monkeypatch)
    held, graphed = torch.zeros(()), Graphed(scaled_and_counted, "sums")
    results = [graphed([torch.full((2,), number), torch.ones(2)], [held])[0] for number in (1.0, 2.0, 3.0, 4.0)]
    assert [result[0].item() for result in results] == [4, 6, 8, 10]


def test_other_shapes_settings_and_places_are_recorded_anew(monkeypatch):
    counts = pretend_graphs.use(monkeypatch)
    held, elsewhere, graphed = torch.zeros(()), torch.full((), 10.0), Graphed(scaled_and_counted, "sums")
    for number in (1, 2, 3):
        assert call(graphed, 1.0, held) == ([4] * 3, 4 * number - 3)
        assert call(graphed, 1.0, held, size=5) == ([4] * 5, 4 * number - 2)
        assert call(graphed, 1.0, held, 3.0) == ([6] * 3, 4 * number - 1)
        assert call(graphed, 1.0, held, 4.0) == ([8] * 3, 4 * number)
        assert call(graphed, 1.0, elsewhere) == ([4] * 3, 10 + number)
    assert counts == {"recordings": 5, "replays": 10}


def test_one_too_many_forgets_all(monkeypatch):
    """Never one alone: graphs of a stream share a workspace, which torch frees with the first of them."""
    counts = pretend_graphs.use(monkeypatch)
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    held, graphed = torch.zeros(()), Graphed(scaled_and_counted, "sums")
    for size in (1, 1, 2, 2, 3, 3, 2, 2):
        call(graphed, 1.0, held, size=size)
    assert held == 8 and counts["recordings"] == 4 and len(graphed._recorded) == 2
    first, second, third, fourth = pretend_graphs.places
    assert first == second and third == fourth
    assert first[0] is not third[0] and first[1] is not third[1]


def test_no_two_functions_share_memory_or_a_stream(monkeypatch):
    pretend_graphs.use(monkeypatch)
    for graphed in (Graphed(scaled_and_counted, "sums"), Graphed(scaled_and_counted, "other sums")):
        for _ in range(2):
            call(graphed, 1.0, torch.zeros(()))
            call(graphed, 1.0, held := torch.zeros(()))
            call(graphed, 1.0, held)
    assert len({id(pool) for pool, _ in pretend_graphs.places}) == 2
    assert len({id(stream) for _, stream in pretend_graphs.places}) == 2


def test_what_cannot_be_recorded_runs_as_it_is_and_one_line_says_why(monkeypatch, capsys):
    def asking(given, held):
        if torch._C._len_torch_dispatch_stack():
            raise RuntimeError("operation not permitted when stream is capturing\nlaunch log: ...")
        return scaled_and_counted(given, held)

    counts = pretend_graphs.use(monkeypatch)
    held, graphed = torch.zeros(()), Graphed(asking, "sums")
    for number in (1.0, 2.0, 3.0, 4.0):
        assert call(graphed, number, held) == ([2 * number + 2] * 3, number)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "sums: no CUDA graph, kernels are launched one by one (operation not permitted when stream is capturing)"
    )
    assert counts == {}


def test_a_failure_while_recording_changes_nothing(monkeypatch):
    """What it wrote so far was recorded, not done."""

    def failing(given, held):
        held[0].add_(1)
        if torch._C._len_torch_dispatch_stack():
            raise RuntimeError("out of memory")
        return (held[0].clone(),)

    pretend_graphs.use(monkeypatch)
    held, graphed = torch.zeros(()), Graphed(failing, "sums")
    assert [graphed([], [held])[0].item() for _ in range(3)] == [1, 2, 3]


def test_a_users_own_mistake_is_raised(monkeypatch):
    pretend_graphs.use(monkeypatch)
    graphed = Graphed(lambda given, held: (given[5],), "sums")
    with pytest.raises(IndexError):
        graphed([torch.ones(1)], [])


def test_copies_record_anew(monkeypatch):
    counts = pretend_graphs.use(monkeypatch)
    held, graphed = torch.zeros(()), Graphed(scaled_and_counted, "sums")
    call(graphed, 1.0, held), call(graphed, 1.0, held)
    twin = copy.deepcopy(graphed)
    assert call(twin, 1.0, held) == ([4] * 3, 3) and counts["replays"] == 1
