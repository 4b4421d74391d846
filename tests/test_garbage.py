"""The garbage collector while packages are imported."""

import gc

from lit_maprops.system.garbage import uncollected


def test_nothing_is_collected_inside_and_what_is_there_at_the_end_is_left_out_of_later_rounds() -> None:
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    try:
        with uncollected():
            assert not gc.isenabled()
            kept = [[] for _ in range(1000)]
        assert gc.isenabled() and gc.get_freeze_count() >= frozen + len(kept)
        assert not any(one is kept for one in gc.get_objects())  # which are those that a round looks at
    finally:
        gc.unfreeze()


def test_a_program_that_does_without_a_collector_keeps_it_off() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
