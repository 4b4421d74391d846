"""Whose turn it is, on a pretended clock: fair shares, small blocks first, the deadline, and the same after a kill."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_maprops.benchmark.benchmark_file import read_benchmark_file
from lit_maprops.benchmark.cells import FIRST, SEEDS, Cell, cells_of
from lit_maprops.benchmark.turns import START_SECONDS, Turns, progress_of
from lit_maprops.sweep.journal import Entry

FILE = read_benchmark_file()
COST = {"figure1": 0.1, "boulderpush_5x5": 4.0, "mpe_simple_spread": 150.0}  # seconds per seed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("lit_maprops.benchmark.turns.time.monotonic", lambda: now[0])
    return now


def cells(*tasks: str) -> list[Cell]:
    return cells_of(FILE, list(tasks), ["OnPolicy", "MAPROPS"], None)[0]


def play(turns: Turns, entries: list[Entry], clock: list[float], blocks: int) -> None:
    """Run blocks one after the other; each leaves a summary, as a run does."""
    for _ in range(blocks):
        flags = turns.propose(entries)
        if flags is None:
            return
        entry = Entry(f"{len(entries):03d}-000000", flags, "finished")
        name = next(c.task.name for c in turns.cells if c.flags().items() <= flags.items())
        wall = COST[name] * flags[SEEDS]
        (turns.folder / entry.id).mkdir()
        (turns.folder / entry.id / "summary.json").write_text(json.dumps({"wall_seconds": wall}))
        clock[0] += wall + START_SECONDS
        entries.append(entry)


def seconds_of(turns: Turns, entries: list[Entry]) -> dict[tuple[str, str, str], float]:
    found = progress_of(turns.cells, entries)
    return {
        cell.name: sum(START_SECONDS + COST[cell.task.name] * e.parameters[SEEDS] for e in found[cell.name].blocks)
        for cell in turns.cells
    }


def test_every_cell_gets_its_share_of_the_time(tmp_path: Path, clock: list[float]) -> None:
    turns = Turns(cells("figure1", "boulderpush_5x5"), 10**9, tmp_path, None)
    entries: list[Entry] = []
    play(turns, entries, clock, 60)
    spent = seconds_of(turns, entries)
    # Blocks double, so the time of a cell is at most about twice that of another.
    assert min(spent.values()) > max(spent.values()) / 3
    assert [e.parameters[SEEDS] for e in entries[:2]] == [32, 32]  # small and cheap ones first
    for cell in turns.cells:  # without gaps
        blocks = [e.parameters for e in progress_of(turns.cells, entries)[cell.name].blocks]
        assert [b[FIRST] for b in blocks] == [sum(b[SEEDS] for b in blocks[:k]) for k in range(len(blocks))]


def test_dear_cells_wait_until_others_had_as_much(tmp_path: Path, clock: list[float]) -> None:
    turns = Turns(cells("figure1", "mpe_simple_spread"), 10_000, tmp_path, None)
    entries: list[Entry] = []
    play(turns, entries, clock, 200)
    first = next(k for k, e in enumerate(entries) if "mpe" in str(e.parameters.get("data.env.name")))
    before = seconds_of(turns, entries[:first])
    assert before["figure1", "Reinforce", "OnPolicy"] > 60


def test_no_block_begins_that_cannot_end(tmp_path: Path, clock: list[float]) -> None:
    turns = Turns(cells("figure1", "boulderpush_5x5", "mpe_simple_spread"), 10_000, tmp_path, 120.0)
    entries: list[Entry] = []
    play(turns, entries, clock, 1000)
    assert 60 < clock[0] <= 120
    assert len(entries) > 5 and not any("mpe" in str(e.parameters) for e in entries)


def test_it_ends_at_the_seeds_and_counts_the_blocks(tmp_path: Path, clock: list[float]) -> None:
    turns = Turns(cells("figure1", "boulderpush_5x5"), 40, tmp_path, None)
    entries: list[Entry] = []
    total = turns.blocks(entries)
    play(turns, entries, clock, 1000)
    assert len(entries) == total == turns.blocks(entries)
    assert all(found.seeds == 40 for found in progress_of(turns.cells, entries).values())


@pytest.mark.parametrize("state", ["failed", "running", "waiting"])
def test_a_cell_with_an_open_or_failed_block_gets_no_other(state: str, tmp_path: Path, clock: list[float]) -> None:
    [cell, _] = cells("figure1")
    turns = Turns([cell], 64, tmp_path, None)
    assert turns.propose([Entry("000-000000", cell.block(0, 64), state)]) is None


def test_it_goes_on_after_a_kill_as_if_there_had_been_none(tmp_path: Path, clock: list[float]) -> None:
    def played(folder: str, *blocks: int) -> list[dict[str, object]]:
        (tmp_path / folder).mkdir()
        entries: list[Entry] = []
        for some in blocks:  # each with nothing in memory
            play(Turns(cells("figure1", "boulderpush_5x5"), 500, tmp_path / folder, None), entries, clock, some)
            entries = [Entry(**json.loads(json.dumps(vars(entry)))) for entry in entries]
        return [entry.parameters for entry in entries]

    assert played("once", 20) == played("thrice", 7, 1, 12)


def test_time_up_stops_what_is_at_work(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    from lit_maprops.benchmark.turns import TimedScheduler

    said: list[Callable[..., object] | str | int] = []

    class Stand:
        is_ours = True

        def signal(self, number: int) -> None:
            said.append(number)

        def say(self, message: str) -> None:
            said.append(message)

    scheduler = TimedScheduler.__new__(TimedScheduler)
    scheduler.deadline, scheduler.received, scheduler._active = 10.0, None, [Stand()]  # type: ignore[list-item]
    scheduler.progress = scheduler.file = Stand()  # type: ignore[assignment]
    clock[0] = 11.0
    scheduler._fill()
    assert scheduler.out_of_time and scheduler.received == 15 and said[-1] == 15
