"""Seed streams: uniform, one per seed and purpose, and continued exactly from any saved position."""

import io
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from lit_maprops.stacked.streams import BLOCK, SeedStreams

# Draws of every kind: single numbers, matrices, empty, exactly to the end of a block, one past it, more than a block.
SHAPES = [(1,), (3, 5), (0,), (2, 0), (BLOCK - 16,), (1,), (7,), (BLOCK,), (1,), (BLOCK - 1,), (1,), (1,), (BLOCK + 1,)]
SHAPES += [(40, 30, 2), (5,), (2 * BLOCK,), (11, 3), (600,), (600,), (600,), (), (4,)]


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def draws(streams, shapes):
    return [streams.uniform(*shape) for shape in shapes]


def assert_equal(first, second):
    different = [k for k, (one, other) in enumerate(zip(first, second, strict=True)) if not torch.equal(one, other)]
    assert not different, "the draws that differ"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shape_and_range(shape):
    drawn = SeedStreams(0, [3, 1], "actions").uniform(*shape)
    assert drawn.shape == (2, *shape) and drawn.dtype == torch.float32
    assert ((drawn >= 0) & (drawn < 1)).all()


def test_every_stream_is_uniform():
    for row in SeedStreams(12, list(range(20)), "actions").uniform(20_000).numpy():
        assert kstest(row, "uniform").pvalue > 1e-3


def test_small_draws_are_uniform_and_independent():
    streams = SeedStreams(3, [0, 1], "actions")
    numbers = torch.cat([streams.uniform(2, 3).flatten(1) for _ in range(5000)], dim=1)
    assert kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3
    digits = (numbers * 4).long()
    pairs = 4 * digits[:, :-1] + digits[:, 1:]
    assert chisquare(pairs[:, ::2].flatten().bincount(minlength=16).numpy()).pvalue > 1e-3
    assert chisquare(pairs[:, 1::2].flatten().bincount(minlength=16).numpy()).pvalue > 1e-3


def test_no_number_is_handed_out_twice():
    streams = SeedStreams(5, [2], "actions")
    drawn = torch.cat([streams.uniform(*shape).reshape(-1) for shape in SHAPES * 2])
    windows = Counter(tuple(window) for window in drawn.unfold(0, 3, 1).tolist())
    assert max(windows.values()) == 1


def test_a_seed_reads_its_own_stream_whoever_else_is_there():
    ids = [5, 0, 17, 3]
    together = draws(SeedStreams(1, ids, "actions"), SHAPES)
    for position, seed_id in enumerate(ids):
        alone = draws(SeedStreams(1, [seed_id], "actions"), SHAPES)
        assert_equal(alone, [drawn[position : position + 1] for drawn in together])


def test_permuting_seeds_permutes_the_numbers():
    order = [2, 0, 3, 1]
    first = draws(SeedStreams(1, [5, 0, 17, 3], "actions"), SHAPES)
    second = draws(SeedStreams(1, [[5, 0, 17, 3][k] for k in order], "actions"), SHAPES)
    assert_equal([drawn[order] for drawn in first], second)


def test_streams_of_all_run_seeds_seed_ids_and_purposes_differ():
    names = [
        (run, seed, purpose) for run in (0, 1, 2, 2**32 - 1) for seed in (0, 1, 2) for purpose in ("a", "b", "start")
    ]
    numbers = np.stack([SeedStreams(run, [seed], purpose).uniform(4000)[0].numpy() for run, seed, purpose in names])
    correlation = np.corrcoef(numbers) - np.eye(len(names))
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)
    for first, second in combinations(numbers, 2):
        assert (first == second).sum() <= 2


def test_run_seed_and_seed_id_do_not_add_up():
    assert not torch.equal(SeedStreams(1, [2], "a").uniform(8), SeedStreams(2, [1], "a").uniform(8))


def test_the_global_generator_plays_no_part():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = draws(SeedStreams(1, [4], "actions"), SHAPES)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert_equal(first, draws(SeedStreams(1, [4], "actions"), SHAPES))


def used_streams(seed_ids):
    streams = SeedStreams(77, seed_ids, "something else")
    draws(streams, [(100,), (3 * BLOCK,), (5,)])
    return streams


@pytest.mark.parametrize("position", range(len(SHAPES) + 1))
@pytest.mark.parametrize("make", [lambda ids: SeedStreams(9, ids, "actions"), used_streams], ids=["new", "used"])
def test_a_saved_stream_continues_exactly(position, make):
    streams = SeedStreams(9, [8, 2, 6], "actions")
    draws(streams, SHAPES[:position])
    saved = through_file(streams.state_dict())
    expected = draws(streams, SHAPES[position:] + SHAPES)
    resumed = make([8, 2, 6])
    resumed.load_state_dict(saved)
    assert_equal(expected, draws(resumed, SHAPES[position:] + SHAPES))


def test_loading_the_state_of_an_untouched_stream_starts_it_over():
    streams = SeedStreams(9, [8, 2], "actions")
    saved = through_file(streams.state_dict())
    expected = draws(streams, SHAPES)
    streams.load_state_dict(saved)
    assert_equal(expected, draws(streams, SHAPES))


@pytest.mark.parametrize("cursor", [1, 15, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 3])
def test_a_stream_saved_at_any_cursor_continues_number_by_number(cursor):
    streams = SeedStreams(9, [8, 2], "actions")
    draws(streams, [(1,)] * cursor)
    resumed = SeedStreams(0, [0, 1], "actions")
    resumed.load_state_dict(through_file(streams.state_dict()))
    rest = [(1,)] * (BLOCK + 10)
    assert_equal(draws(streams, rest), draws(resumed, rest))


def test_saving_changes_nothing_and_is_not_changed_by_drawing():
    plain, saving = SeedStreams(9, [8], "actions"), SeedStreams(9, [8], "actions")
    for shape in SHAPES:
        saved = saving.state_dict()
        copy = through_file(saved)
        assert torch.equal(plain.uniform(*shape), saving.uniform(*shape))
        assert saved.keys() == copy.keys() and torch.equal(saved["block_states"], copy["block_states"])
        assert {k: v for k, v in saved.items() if k != "block_states"} == {
            k: v for k, v in copy.items() if k != "block_states"
        }


def test_one_saved_state_can_be_continued_many_times():
    streams = SeedStreams(9, [8, 2], "actions")
    draws(streams, SHAPES[:6])
    saved = streams.state_dict()
    expected = draws(streams, SHAPES)
    for _ in range(2):
        streams.load_state_dict(saved)
        assert_equal(expected, draws(streams, SHAPES))


def test_a_state_saved_after_loading_is_as_good():
    streams = SeedStreams(9, [8, 2], "actions")
    draws(streams, [(BLOCK - 5,)])
    once, twice = SeedStreams(0, [0, 0], "a"), SeedStreams(0, [0, 0], "b")
    once.load_state_dict(streams.state_dict())
    twice.load_state_dict(through_file(once.state_dict()))
    assert_equal(draws(streams, SHAPES), draws(twice, SHAPES))


def test_a_state_for_another_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="3 seeds, not 2"):
        SeedStreams(0, [0, 1], "a").load_state_dict(SeedStreams(0, [0, 1, 2], "a").state_dict())


@pytest.mark.parametrize("length", [1, 2, 100, BLOCK + 7])
def test_permutations_are_permutations(length):
    permutations = SeedStreams(0, [3, 4, 5], "minibatches").permutation(length)
    assert permutations.dtype == torch.int64 and permutations.shape == (3, length)
    assert torch.equal(permutations.sort(1).values, torch.arange(length).expand(3, length))
    assert length == 1 or length == 2 or not torch.equal(permutations[0], permutations[1])


def test_permutations_sort_the_streams_numbers():
    numbers = SeedStreams(0, [3, 4, 5], "minibatches").uniform(700)
    expected = torch.argsort(numbers, dim=1, stable=True)
    assert torch.equal(SeedStreams(0, [3, 4, 5], "minibatches").permutation(700), expected)


def test_permutations_are_uniform():
    streams = SeedStreams(0, [3, 4], "minibatches")
    drawn = torch.stack([streams.permutation(4) for _ in range(6000)], dim=1)
    for seed in drawn:
        counts = Counter(map(tuple, seed.tolist()))
        assert len(counts) == 24
        assert chisquare(list(counts.values())).pvalue > 1e-3


def test_a_seeds_permutation_is_its_own():
    together = SeedStreams(0, [3, 4, 5], "minibatches").permutation(50)
    assert torch.equal(together[1:2], SeedStreams(0, [4], "minibatches").permutation(50))


def split_mix(seed, count):
    """SplitMix64 in plain integers."""
    numbers, mask = [], 2**64 - 1
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        numbers.append(z ^ (z >> 31))
    return numbers


def test_a_stream_is_numpys_twister_started_from_split_mix():
    assert split_mix(1234567, 2) == [6457827717110365317, 3203168211198807973]  # as published for this seed
    high, low = np.random.SeedSequence([0, 7, 2**3, 5, *b"actions"]).generate_state(2, np.uint64).tolist()
    key = [a >> 32 ^ b % 2**32 for a, b in zip(split_mix(high, 624), split_mix(low, 624), strict=True)]
    twister = np.random.MT19937()
    key = np.array([2**31, *key[1:]], dtype=np.uint32)
    twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624}}
    expected = (twister.random_raw(3000) % 2**24) / 2**24
    drawn = SeedStreams(7, [2**35 + 5], "actions").uniform(3000)[0]
    np.testing.assert_array_equal(drawn.double().numpy(), expected)


@pytest.mark.parametrize("seeds", [650, pytest.param(6500, marks=pytest.mark.slow)])
def test_no_two_of_many_streams_start_alike(seeds):
    """By 32 bits of a seed, as ``manual_seed`` has it, two pairs of 6500 seeds are to be expected."""
    purposes = ["actions", "environment", "behavior minibatches", "evaluation 10"]
    starts = []
    for run_seed in (0, 1, 2, 2**32, 2**40 + 1):
        for purpose in purposes:
            for generator in SeedStreams(run_seed, range(seeds), purpose).generators:
                starts.append(generator.get_state()[32:64].numpy().tobytes())  # the second word to the fifth
    assert len(starts) == 20 * seeds == len(set(starts))
    words = np.frombuffer(b"".join(starts), dtype=np.uint64).reshape(-1, 4)
    assert words.max() < 2**32
    for word in words.T:
        assert kstest(word / 2**32, "uniform").pvalue > 1e-3
        assert chisquare(np.bincount(word.astype(np.int64) % 64, minlength=64)).pvalue > 1e-3


@pytest.mark.parametrize("pair", [((5, 1 + 3 * 2**32), (5 + 2**32, 3)), ((0, 2**32), (2**32, 0)), ((1, 2), (2, 1))])
def test_large_run_seeds_and_seed_numbers_do_not_run_together(pair):
    one, other = (SeedStreams(run_seed, [seed_id], "actions").uniform(8) for run_seed, seed_id in pair)
    assert not torch.equal(one, other)


def test_fresh_generators_differ_and_follow_their_stream():
    drawn = [generator.get_state() for generator in SeedStreams(0, list(range(300)), "weights").new_generators()]
    assert len({state.numpy().tobytes() for state in drawn}) == 300
    again = SeedStreams(0, [7], "weights").new_generators()[0]
    assert torch.equal(again.get_state(), drawn[7])


@pytest.mark.parametrize("shape", [(7,), (3, 5), (), (2, 0), (BLOCK,), (BLOCK + 1,)], ids=str)
@pytest.mark.parametrize("before", [0, 1, BLOCK - 8, BLOCK])
def test_several_draws_are_those_one_by_one(before, shape):
    one, other = (SeedStreams(0, [3, 1], "actions") for _ in range(2))
    assert_equal([one.uniform(before)], [other.uniform(before)])
    for times in (1, 200, 146, 3):
        assert torch.equal(one.several(times, *shape), torch.stack([other.uniform(*shape) for _ in range(times)], 1))
        assert one.state_dict()["cursor"] == other.state_dict()["cursor"]
        assert torch.equal(one.state_dict()["block_states"], other.state_dict()["block_states"])
