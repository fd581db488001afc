"""The summary's numbers against other ways to count them, and the verdict's words."""

import math
import statistics
from collections import Counter

import numpy as np
import pytest
from ablation_cells import cell, failed, measured
from scipy import stats

from fedhq.allocator import Dual, Exact, HardwareOnly, Milp, Sweep
from fedhq.studies.ablation.columns import COLUMNS, relative_text, seconds_text
from fedhq.studies.ablation.kinds import Kind
from fedhq.studies.ablation.spread import Spread, shifted_geometric_mean
from fedhq.studies.ablation.summary import summarise
from fedhq.studies.ablation.verdict import verdict

SOLVERS = {
    "sweep": Sweep(), "dual": Dual(), "exact": Exact(), "highs": Milp(),
    "hardware-only": HardwareOnly("qat-w2a2", "ptq-w2a2"),
}  # fmt: skip
FAMILIES = ("random", "ties", "all equal", "infeasible by a hair")


@pytest.fixture(scope="module")
def cells():
    return measured(SOLVERS, FAMILIES, (4, 12), (0, 1))


@pytest.fixture(scope="module")
def summary(cells):
    return summarise(cells)


def row_of(summary, solver, family="", limit=1.0):
    (row,) = [row for row in summary.of(limit, family) if row.solver == solver]
    return row


def text_of(row, heading):
    (column,) = [column for column in COLUMNS if column.heading == heading]
    return column.text(row)


def test_rows_count_what_the_cells_say(summary, cells):
    for solver in SOLVERS:
        own = Counter(c.outcome for c in cells if c.solver == solver)
        row = row_of(summary, solver)
        assert row.problems == sum(own.values()) == len(FAMILIES) * 4
        assert (row.faults.refused, row.faults.empty) == (own["refused"], own["unknown"])
        assert row.faults.wrong == row.faults.crashed == row.faults.timeout == 0
        if solver in ("exact", "highs"):
            assert row.proven == row.near == own["optimal"] + own["infeasible"] == row.problems
            assert row.same_objective == 1.0


def test_families_add_up_to_all(summary):
    for solver in SOLVERS:
        rows = [row_of(summary, solver, family) for family in FAMILIES]
        whole = row_of(summary, solver)
        for name in ("problems", "proven", "near", "answered"):
            assert sum(getattr(row, name) for row in rows) == getattr(whole, name)


def test_the_best_solver_comes_first(summary):
    rows = summary.of(1.0)
    assert rows[0].solver in ("exact", "highs")
    assert rows[-1].near == min(row.near for row in rows)


def test_the_shifted_geometric_mean_is_scipys_of_shifted_times():
    seconds = np.random.default_rng(0).lognormal(-3, 2, 40).tolist()
    wanted = stats.gmean(np.array(seconds) + 0.01) - 0.01
    assert shifted_geometric_mean(seconds) == pytest.approx(wanted)


def test_what_is_not_near_counts_as_the_limit_and_what_is_refused_not_at_all():
    cells = [
        cell("good", "ties, 2, 0", total=0.04), cell("good", "ties, 2, 1", total=0.09),
        cell("poor", "ties, 2, 0", total=0.04), failed("poor", "ties, 2, 1", total=0.2),
        cell("picky", "ties, 2, 0", total=0.04), failed("picky", "ties, 2, 1", "refused"),
    ]  # fmt: skip
    summary = summarise(cells)
    assert row_of(summary, "good").mean_seconds == pytest.approx(math.sqrt(0.05 * 0.1) - 0.01)
    assert row_of(summary, "poor").mean_seconds == pytest.approx(math.sqrt(0.05 * 1.01) - 0.01)
    assert row_of(summary, "picky").mean_seconds == pytest.approx(0.04)


def test_spreads_are_quartiles_of_those_that_came_near():
    times = [0.001, 0.002, 0.004, 0.008, 0.016]
    cells = [cell("a", f"ties, 2, {k}", total=t) for k, t in enumerate(times)]
    cells += [cell("b", f"ties, 2, {k}", total=0.004) for k in range(5)]
    row = row_of(summarise(cells), "a")
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    found = (row.seconds.low, row.seconds.median, row.seconds.high)
    assert found == pytest.approx((low, median, high))
    assert row.seconds.most == 0.016
    assert row.ratio.median == pytest.approx(1.0)  # 1, 1, 1, 2, 4
    assert row.ratio.most == pytest.approx(4.0)
    assert text_of(row, "× fastest") == "1 (1 to 2)"  # noqa: RUF001


def test_phases_are_mean_shares_and_the_rest():
    cells = [
        cell("a", "ties, 2, 0", seconds={"total": 0.4, "build": 0.2, "solve": 0.1}),
        cell("a", "ties, 2, 1", seconds={"total": 0.8, "compile": 0.2, "solve": 0.6, "start": 5.0}),
    ]
    row = row_of(summarise(cells), "a")
    np.testing.assert_allclose(row.phases, [0.25, 0.125, 0.5, 0.125])


def test_limits_have_rows_of_their_own():
    cells = [cell("a"), cell("a", time_limit_seconds=5.0, total=0.5)]
    summary = summarise(cells)
    assert summary.limits == (1.0, 5.0)
    assert row_of(summary, "a").seconds.median == 0.001
    assert row_of(summary, "a", limit=5.0).seconds.median == 0.5


def test_solvers_that_are_not_installed_are_named_and_not_counted():
    summary = summarise([cell("a"), failed("gone", outcome="missing", settings="")])
    assert (summary.solvers, summary.missing) == (("a",), ("gone",))
    assert [row.solver for row in summary.of(1.0)] == ["a"]


def test_solvers_are_listed_kind_by_kind_as_their_cells_say():
    kinds = {"a": Kind.RULE, "b": Kind.LIBRARY, "c": Kind.OURS, "d": Kind.LIBRARY}
    summary = summarise([cell(solver, kind=kind) for solver, kind in kinds.items()])
    assert summary.solvers == ("c", "b", "d", "a")
    assert {row.solver: row.kind for row in summary.of(1.0)} == kinds


def test_faults_are_told_apart():
    cells = [
        failed("a", "ties, 2, 0"),
        failed("a", "ties, 2, 1", verified=False),
        failed("a", "ties, 2, 2", "not tried", seconds={}),
        failed("a", "ties, 2, 3", "timeout", total=11.0),
        cell("a", "ties, 2, 4", total=1.2),
        cell("a", "ties, 2, 5", total=1.05),
    ]
    row = row_of(summarise(cells), "a")
    assert text_of(row, "faults") == (
        "1 breaking a limit, 1 late, 1 timeout, 1 not tried, 1 no answer"
    )
    assert (row.near, row.problems) == (1, 6)
    assert row.seconds.most == 1.05
    told = [0.001, 0.001, 0.0, 11.0, 1.2, 1.05]  # what is not near counts as the limit at least
    counted = [max(seconds, 1.0) for seconds in told]
    assert row.mean_seconds == pytest.approx(shifted_geometric_mean(counted))


def test_a_gap_without_a_bound_is_infinite_so_that_proving_only_what_is_easy_is_no_merit():
    gaps = {"all": (0.1, 0.2, 0.3), "most": (0.0, 0.2, None), "few": (0.0, None, None)}
    cells = [
        cell(solver, f"ties, 2, {k}", gap=gap)
        for solver, own in gaps.items()
        for k, gap in enumerate(own)
    ]
    cells += [cell("none", f"ties, 2, {k}", gap=None) for k in range(3)]
    summary = summarise(cells)
    told = {row.solver: text_of(row, "gap") for row in summary.of(1.0)}
    assert told == {"all": "20 %; 30 %", "most": "20 %; ∞", "few": "∞; ∞", "none": "-"}


def test_spreads_are_numpys_quantiles():
    rng = np.random.default_rng(0)
    for size in range(1, 9):
        values = rng.normal(size=size)
        found = Spread.of(values.tolist())
        wanted = np.quantile(values, [0.25, 0.5, 0.75])
        assert (found.low, found.median, found.high) == pytest.approx(tuple(wanted))
        assert found.most == values.max()


def test_how_many_measured_at_a_time_is_told():
    cells = [cell("a", f"ties, 2, {k}", workers=n) for k, n in enumerate((2, 1, 2))]
    assert summarise(cells).workers("here") == "1 or 2 measuring at a time"


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="must hold a measurement, but is empty"):
        summarise([])


def test_no_solver_but_missing_ones_is_an_error():
    with pytest.raises(ValueError, match=r"no solver that was measured is installed. Get `gone`"):
        summarise([failed("gone", outcome="missing", message="Get `gone` from its makers.")])


# --- In words ---


def test_the_verdict_names_who_solves_proves_and_grows(summary):
    says = " ".join(verdict(summary, 1.0))
    assert "on 16 of 16 problems" in says
    assert "proved most optima: 16 of 16" in says
    assert "No solver was caught at a wrong answer" in says
    assert "At 12 clients" in says


def test_the_verdict_counts_the_fastest():
    cells = [cell("a", f"ties, 2, {k}", total=0.1) for k in range(3)]
    cells += [cell("b", f"ties, 2, {k}", total=0.01 if k else 1.0) for k in range(3)]
    says = verdict(summarise(cells), 1.0)
    assert "The fastest to come near, of 3 problems: b on 2 and a on 1." in says


def test_the_verdict_says_how_many_of_the_fastest_it_leaves_out():
    cells = [
        cell(solver, f"ties, 2, {k}", total=0.01 if solver == best else 0.1)
        for k, best in enumerate("aaabbcdef")
        for solver in "abcdef"
    ]
    says = verdict(summarise(cells), 1.0)
    told = "of 9 problems: a on 3, b on 2, c on 1, d on 1 and 2 others."
    assert f"The fastest to come near, {told}" in says


def test_the_verdict_names_the_best_of_each_family():
    cells = [cell("a", f"{family}, 2, 0", total=0.1) for family in ("x", "y", "z")]
    cells += [cell("b", f"{family}, 2, 0", total=0.01) for family in ("x", "y")]
    cells.append(failed("b", "z, 2, 0", total=0.01))
    says = verdict(summarise(cells), 1.0)
    assert (
        "The best of a family (near, then proven, then time): b on 'x' and 'y'; a on 'z'." in says
    )


def test_the_verdict_names_who_was_wrong():
    cells = [cell("honest"), cell("liar", objective=5.0, bound=5.0), failed("odd", outcome="wrong")]
    says = verdict(summarise(cells), 1.0)[-1]
    assert says == "Caught at wrong claims: liar (1 of 1) and odd (1 of 1)."


def test_the_verdict_compares_ours_with_the_others():
    cells = []
    for k in range(3):
        cells.append(cell("exact", f"ties, 2, {k}", kind=Kind.OURS, total=0.01))
        cells.append(cell("highs", f"ties, 2, {k}", total=0.04))
    cells.append(cell("exact", "ties, 2, 3", kind=Kind.OURS, total=0.01))
    cells.append(failed("highs", "ties, 2, 3"))
    (says,) = [s for s in verdict(summarise(cells), 1.0) if s.startswith("To a proven optimum")]
    assert "took 4.0 times as long as the fastest of fedhq's own (median of 3" in says
    assert "1 only fedhq's prove, 0 only others" in says


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-7, "0.2 µs"), (0.0999, "99.9 ms"), (0.9999, "1000 ms"), (12345.0, "12345 s")],
)
def test_times_have_a_unit_that_suits_them(value, text):
    assert seconds_text(value) == text


def test_differences_within_tolerances_are_none():
    assert [relative_text(v) for v in (0.0, 9e-7, 1.1e-6, 0.009, 1.0)] == [
        "0", "0", "1.1e-6", "9e-3", "100 %",
    ]  # fmt: skip
