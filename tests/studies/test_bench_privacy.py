"""What private label counts cost: the benchmark at a tiny size, and where its figures stand."""

import re
from pathlib import Path

from fedhq.allocator import privacy
from fedhq.studies.bench_privacy import points_lost, run

RECORD = Path(__file__).parents[2] / "studies" / "privacy.md"


def means_in(text: str) -> list[str]:
    """The first figure of every row of a table."""
    return re.findall(r"^\| [^|]+ \| (-?\d\.\d) \|", text, re.MULTILINE)


def test_nothing_beats_exact_counts_and_little_noise_costs_less_than_lots():
    for seed in range(2):
        noise, *others = points_lost(seed)
        assert all(value >= -1e-9 for _, value in (noise, *others))
        assert noise[1] < others[-1][1] / 4
        assert "by lot" in others[-1][0]


def test_the_table_has_a_row_for_everything_that_is_told():
    assert len(means_in(run(1))) == len(list(points_lost(0)))


def test_the_figures_that_the_allocator_states_are_the_records():
    stated = re.findall(r"\b\d\.\d\b", (privacy.__doc__ or "").partition("0.01")[2])
    assert stated == means_in(RECORD.read_text(encoding="utf-8"))
