"""What is spared while packages are imported, and that nobody misses it."""

import gc
import subprocess
import sys

import pytest

from lit_maprops.system.loading import SELDOM, loading, seldom_collected


def test_nothing_is_collected_inside_and_what_is_there_at_the_end_is_left_out_of_later_rounds() -> None:
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    try:
        with loading():
            assert not gc.isenabled()
            kept = [[] for _ in range(1000)]
        assert gc.isenabled() and gc.get_freeze_count() >= frozen + len(kept)
        assert not any(one is kept for one in gc.get_objects())  # which are those that a round looks at
    finally:
        gc.unfreeze()


def test_a_program_that_does_without_a_collector_keeps_it_off() -> None:
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_work_is_collected_seldom_and_by_the_old_rule_afterwards() -> None:
    before, kept = gc.get_threshold(), []
    try:
        with pytest.raises(KeyError), seldom_collected():
            rounds = gc.get_stats()[0]["collections"]
            kept = [[] for _ in range(SELDOM // 2)]
            assert gc.get_stats()[0]["collections"] <= rounds + 1
            circle: list[object] = []
            circle.append(circle)
            del circle
            assert gc.collect() >= 1  # what comes and goes meanwhile still goes
            raise KeyError
        assert kept and gc.get_threshold() == before
    finally:
        gc.unfreeze()


def output(*lines: str) -> str:
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, text=True, capture_output=True).stdout


def test_a_fit_is_loaded_without_scipys_signals_and_with_lightnings_metrics() -> None:
    pytest.importorskip("scipy.signal")
    said = output(
        "import sys",
        "from lit_maprops.system.loading import loading",
        "with loading():",
        "    import lit_maprops.cli.fit",
        "print('scipy.signal' in sys.modules, 'torchmetrics' in sys.modules, 'pandas' in sys.modules)",
        "import scipy.signal",
        "print(scipy.signal.windows.hamming(3)[1])",
    )
    assert said.split() == ["False", "True", "False", "1.0"]


@pytest.mark.parametrize(
    "line", ["from scipy.signal import lfilter", "import scipy.signal.windows", "from scipy.signal.windows import hann"]
)
def test_who_imports_signals_meanwhile_gets_them(line: str) -> None:
    pytest.importorskip("scipy.signal")
    said = output(
        "import sys",
        "from lit_maprops.system.loading import loading",
        "with loading():",
        f"    {line}",
        "import scipy.signal",
        "print(sys.modules['scipy.signal'].__file__ and scipy.signal.windows.hann(3)[1])",
    )
    assert said.strip() == "1.0"
