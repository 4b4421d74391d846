"""Long tables of cases: which of them ``make test`` runs."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import spread, thin_out


def product_of(*sizes: int) -> list[list[str]]:
    """Cases as pytest orders them, the last parameter fastest."""
    values = [[f"{place} {number}" for number in range(size)] for place, size in enumerate(sizes)]
    return [list(case) for case in itertools.product(*values)]


@pytest.mark.parametrize("begin", [0, 1, 5, 2**31])
@pytest.mark.parametrize(("sizes", "k"), [((6, 2), 2), ((22, 9), 3), ((3, 3), 3), ((9, 5, 3, 2), 5), ((4, 4, 4), 4)])
def test_every_value_has_a_fair_share(sizes: tuple[int, ...], k: int, begin: int) -> None:
    cases = product_of(*sizes)
    kept = [cases[number] for number in spread(cases, k, begin)]
    assert len(kept) == -(-len(cases) // k)
    for value in set(itertools.chain(*cases)):
        share = sum(value in case for case in kept) / sum(value in case for case in cases)
        assert 0.4 / k <= share <= 2 / k, (value, share)


@pytest.mark.parametrize(("length", "k"), [(1, 2), (7, 2), (9, 3), (20, 9)])
def test_of_values_that_occur_once_it_is_each_kth_from_somewhere(length: int, k: int) -> None:
    cases = [[str(number)] for number in range(length)]
    assert spread(cases, k, 0) == set(range(0, length, k))
    assert set().union(*(spread(cases, k, begin) for begin in range(k))) == set(range(length))


CASES = "import pytest\n@pytest.mark.every(3)\n@pytest.mark.parametrize('n', range(7))\ndef test_a(n): pass\n"


@pytest.mark.parametrize(
    ("args", "keyword", "left"),
    [(["a.py"], "", 3), (["a.py::test_a"], "", 3), (["a.py::test_a[2]"], "", 7), (["a.py"], "2", 7), ([], "", 3)],
    ids=["a file", "a test", "a case", "-k", "all"],
)
def test_what_is_asked_for_is_not_thinned_out(tmp_path: Any, args: list[str], keyword: str, left: int) -> None:
    file = tmp_path / f"{tmp_path.name}.py"  # modules of equal names would be one
    file.write_text(CASES)

    class Plugin:
        @staticmethod
        def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
            config: Any = SimpleNamespace(args=args, option=SimpleNamespace(keyword=keyword))
            thin_out(config, items)
            found.append(sum(item.get_closest_marker("slow") is None for item in items))

    found: list[int] = []
    options = [
        "--collect-only",
        "-qq",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:unraisableexception",
        "-c",
        str(tmp_path / "none.ini"),
    ]
    (tmp_path / "none.ini").write_text("[pytest]\nmarkers =\n  slow: x\n  every(k): x\n")
    assert pytest.main([*options, str(file)], plugins=[Plugin()]) == 0
    assert found == [left]
