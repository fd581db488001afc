"""The figures show the cells, each solver looks the same everywhere, and ours stand out."""

import statistics

import numpy as np
import pytest
from ablation_cells import cell, failed, measured

from fedhq.allocator import Dual, Exact, HardwareOnly, Milp, Sweep
from fedhq.studies.ablation import curves, figures
from fedhq.studies.ablation.drawing import powers_of_ten
from fedhq.studies.ablation.end_to_end import EndToEnd
from fedhq.studies.ablation.judged import Criterion
from fedhq.studies.ablation.kinds import Kind
from fedhq.studies.ablation.marks import marks_of
from fedhq.studies.ablation.profiles import Race
from fedhq.studies.ablation.summary import summarise

SOLVERS = {
    "sweep": Sweep(), "dual": Dual(), "exact": Exact(), "highs": Milp(),
    "hardware-only": HardwareOnly("qat-w2a2", "ptq-w2a2"),
}  # fmt: skip
FAMILIES = ("random", "ties")


@pytest.fixture(scope="module")
def summary():
    return summarise(measured(SOLVERS, FAMILIES, (4, 8), (0, 1)))


def lines_of(figure):
    return {trace.name: trace for trace in figure.data}


def all_figures(summary):
    choices = [
        *curves.performance_figures(summary, 1.0),
        *curves.budget_figures(summary, 1.0),
        *curves.scaling_figures(summary, 1.0),
        *figures.quality_figures(summary, 1.0),
    ]
    return [choice.figure for choice in choices]


def test_a_profile_can_be_asked_for_by_criterion_and_by_family(summary):
    choices = curves.performance_figures(summary, 1.0)
    assert [(c.group, c.name) for c in choices[:3]] == [
        ("all families", "within 1e-4 of the best known"),
        ("all families", "proven optimal"),
        ("all families", "any verified allocation"),
    ]
    assert [c.name for c in choices[3:]] == list(FAMILIES)


@pytest.mark.parametrize("relative", [True, False])
def test_the_lines_of_a_profile_are_the_profiles(summary, relative):
    draw = curves.performance_figures if relative else curves.budget_figures
    race = Race.of(summary.cells(1.0), Criterion.NEAR)
    profiles = race.performance_profiles() if relative else race.time_profiles()
    drawn = lines_of(draw(summary, 1.0)[0].figure)
    for solver, profile in zip(race.solvers, profiles, strict=True):
        if len(profile.at):
            line = drawn.pop(solver)
            for x, y in zip(line.x, line.y, strict=True):
                assert profile(x * (1 - 1e-3)) - 1e-3 <= y <= profile(x * (1 + 1e-3)) + 1e-3
            assert line.y[-1] == pytest.approx(profile.share[-1], rel=1e-3)
            assert line.line.shape == "hv"
    assert not drawn  # who solved nothing has no line


def test_a_long_profile_is_thinned_and_keeps_its_ends():
    rng = np.random.default_rng(0)
    times = rng.lognormal(-6, 2, 2000).clip(max=1.0)
    cells = [cell("a", f"ties, 2, {k}", total=float(t)) for k, t in enumerate(times)]
    (line,) = curves.budget_figures(summarise(cells), 1.0)[0].figure.data
    assert len(line.x) < 200
    assert line.x[0] == pytest.approx(times.min(), rel=1e-3)
    assert line.y[-1] == 1.0
    for x, y in zip(line.x, line.y, strict=True):
        assert y == pytest.approx(np.mean(times <= x), abs=2e-3)


def test_scaling_shows_medians_of_a_size(summary):
    choices = {choice.name: choice.figure for choice in curves.scaling_figures(summary, 1.0)}
    assert list(choices) == [*FAMILIES, "all families"]
    own = [j.cell for j in summary.cells(1.0, "ties") if j.cell.solver == "exact"]
    line = lines_of(choices["ties"])["exact"]
    for size, y in zip((4, 8), line.y, strict=True):
        took = [c.seconds["total"] for c in own if c.clients == size]
        assert y == pytest.approx(statistics.median(took), rel=1e-3)


def test_a_point_is_hollow_where_not_all_came_near_and_a_line_ends_where_none_did():
    cells = [
        cell("a", "ties, 2, 0"), cell("a", "ties, 2, 1"),
        cell("a", "ties, 8, 0"), failed("a", "ties, 8, 1"), cell("b", "ties, 8, 1"),
        failed("a", "ties, 32, 0"), cell("b", "ties, 32, 0"),
    ]  # fmt: skip
    (choice,) = curves.scaling_figures(summarise(cells), 1.0)
    line = lines_of(choice.figure)["a"]
    assert list(line.marker.symbol) == ["square", "square-open"]
    assert [round(x) for x in line.x] == [2, 8]
    assert list(choice.figure.layout.xaxis.ticktext) == ["2", "8", "32"]


def test_a_family_of_one_size_does_not_bend_the_lines_of_all():
    cells = [cell("a", f"ties, {n}, 0", total=n / 100) for n in (2, 8)]
    cells.append(cell("a", "recorded, 4, 0", total=0.9))
    ties, recorded, every = (c.figure for c in curves.scaling_figures(summarise(cells), 1.0))
    assert recorded.data[0].y == (0.9,)
    assert every.data[0].y == ties.data[0].y == (0.02, 0.08)


def test_the_time_limit_stands_on_a_logarithmic_axis_where_it_is(summary):
    figure = curves.scaling_figures(summary, 1.0)[0].figure
    assert figure.layout.shapes[0].y0 == 1.0
    assert figure.layout.annotations[0].y == 0.0  # its logarithm


def test_quality_shows_the_excess_and_what_has_none_at_the_foot(summary):
    choices = figures.quality_figures(summary, 1.0)
    assert len(choices) == 2 * (1 + len(FAMILIES))
    drawn = lines_of(choices[0].figure)
    assert set(drawn["exact"].y) == {1e-7}
    excess = [j.excess for j in summary.cells(1.0) if j.cell.solver == "hardware-only"]
    known = [v for v in excess if v is not None]
    assert known
    assert max(drawn["hardware-only"].y) <= max(known) * 1.001


def test_an_answer_without_a_bound_has_no_point_among_the_gaps():
    cells = [
        *(cell("a", f"ties, 2, {k}", gap=gap) for k, gap in enumerate((0.1, None, 0.2))),
        *(cell("b", f"ties, 2, {k}", gap=gap) for k, gap in enumerate((0.1, None, None))),
    ]
    (figure,) = [
        choice.figure
        for choice in figures.quality_figures(summarise(cells), 1.0)
        if choice.group == "gap that it proves"
    ]
    assert {name: line.y for name, line in lines_of(figure).items()} == {"a": (0.2,)}


def test_the_heat_map_shows_the_rows_of_the_families(summary):
    near, proven, *_ = (c.figure for c in figures.agreement_figures(summary, 1.0))
    for figure, count in ((near, "near"), (proven, "proven")):
        heat = figure.data[0]
        for solver, line in zip(heat.y, heat.z, strict=True):
            for family, z in zip(heat.x, line, strict=True):
                (row,) = [r for r in summary.of(1.0, family) if r.solver == solver]
                if row.faults.refused == row.problems:
                    assert z is None
                else:
                    assert z == pytest.approx(getattr(row, count) / row.problems)


def test_phases_fill_the_bars():
    cells = [cell("a", seconds={"total": 0.8, "build": 0.4, "solve": 0.2}), cell("b")]
    figure = figures.phases_figure(summarise(cells), 1.0)
    bars = {bar.name: dict(zip(bar.y, bar.x, strict=True)) for bar in figure.data}
    assert [bars[n]["a"] for n in ("build", "compile", "solve", "other")] == [0.5, 0, 0.25, 0.25]
    assert bars["other"]["b"] == 1.0


def test_memory_is_shown_where_it_was_measured():
    cells = [cell("a", f"ties, {n}, 0", peak_bytes=n * 1_000_000) for n in (2, 8)]
    (choice,) = curves.memory_figures(summarise(cells), 1.0)
    assert choice.figure.data[0].y == (2.0, 8.0)
    assert curves.memory_figures(summarise([cell("a")]), 1.0) == []


def test_a_solver_looks_the_same_in_all_figures_and_no_two_look_alike(summary):
    looks = {}
    for figure in all_figures(summary):
        for trace in figure.data:
            looks.setdefault(trace.name, set()).add(trace.line.color or trace.marker.color)
    assert all(len(colours) == 1 for colours in looks.values())
    marks = marks_of(summary)
    assert len({(m.colour, m.dash, m.symbol) for m in marks.values()}) == len(marks)


def test_ours_stand_out(summary):
    marks = marks_of(summary)
    kinds = {row.solver: row.kind for row in summary.rows}
    ours = {s for s, kind in kinds.items() if kind is Kind.OURS}
    assert ours == {"sweep", "dual", "exact"}
    thin = max(mark.width for solver, mark in marks.items() if solver not in ours)
    assert all(marks[solver].width > 1.5 * thin for solver in ours)
    others = {mark.colour for solver, mark in marks.items() if solver not in ours}
    assert not others & {marks[solver].colour for solver in ours}


def test_twenty_solvers_all_look_different():
    cells = [cell(f"cvxpy:{k}", settings=f"Cvx('{k}')") for k in range(12)]
    cells += [cell(f"rule {k}", settings=f"Uniform('{k}')") for k in range(6)]
    marks = marks_of(summarise(cells))
    assert len({(m.colour, m.dash, m.symbol) for m in marks.values()}) == 18


def test_every_figure_says_in_words_what_it_shows(summary):
    drawn = [*all_figures(summary), figures.phases_figure(summary, 1.0)]
    drawn += [choice.figure for choice in figures.agreement_figures(summary, 1.0)]
    assert all(len(figure.layout.meta) > 20 for figure in drawn)


def test_names_are_no_markup():
    figure = curves.scaling_figures(summarise([cell("<b>a</b>")]), 1.0)[0].figure
    assert figure.data[0].name == "&lt;b&gt;a&lt;/b&gt;"


def federation(solver, seed, accuracy, decisions):
    curve = tuple((k, 2.0 * k, accuracy * k / 3) for k in (1, 2, 3))
    origin = (solver, "S()", "lib 7", seed, "run", "here")
    return EndToEnd(*origin, "", 3, 2.0, accuracy, 0.1, 0.01, decisions, curve)


def test_federations_share_a_line_only_if_every_seed_was_decided_alike():
    records = [
        federation("a", 0, 0.6, "x"), federation("a", 1, 0.9, "y"),
        federation("b", 0, 0.6, "x"), federation("b", 1, 0.9, "y"),
        federation("c", 0, 0.6, "x"), federation("c", 1, 0.3, "z"),
        EndToEnd("d", "S()", "lib 7", 0, "run", "here", "no way"),
    ]  # fmt: skip
    drawn = [t for t in figures.federations_figure(records, {}).data if t.name]
    assert [trace.name for trace in drawn] == ["a, b", "c"]
    np.testing.assert_allclose(drawn[0].y, [0.25, 0.5, 0.75])
    assert drawn[0].x == (2.0, 4.0, 6.0)


def test_ticks_of_a_logarithmic_axis_enclose_what_is_drawn():
    axis = powers_of_ten([3e-5, 0.0, 2.0], str)
    assert axis["tickvals"] == pytest.approx([1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0])
