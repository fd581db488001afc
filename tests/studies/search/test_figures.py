"""The figures of searches show the records, and stay small however many trials there are."""

import numpy as np
import pytest
from search_studies import Policies, make_study

from fedhq.studies.search.report.course_figures import course_figures
from fedhq.studies.search.report.details import Details
from fedhq.studies.search.report.figures import (
    MOST_DRAWN,
    drawn_trials,
    frontier_figure,
    importance_figure,
)
from fedhq.studies.search.report.plan_figures import (
    MOST_CLIENTS,
    MOST_COLUMNS,
    allocation_figure,
    colours_of,
    has_prices,
    mix_figure,
    prices_figure,
    waterfall_figure,
)
from fedhq.studies.search.report.plans import plan_trials
from fedhq.studies.search.report.regret import find_regret
from fedhq.studies.search.report.view import StudyView

MOST_BYTES = 100_000  # what a dashboard's storage takes well


@pytest.fixture(scope="module")
def policies():
    return Policies(clients=12)


@pytest.fixture(scope="module")
def study(policies):
    return make_study(60, policies, failed=1, limits={"round_seconds": 14.0})


@pytest.fixture(scope="module")
def view(study):
    return StudyView.of(study)


@pytest.fixture(scope="module")
def details(study, view, policies):
    return Details.of(study, view, "runs/search", policies)


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def marks(figure):
    return [trace for trace in figure.data if trace.mode == "markers"]


# --- Trials and the frontier ---


def test_every_measured_trial_is_drawn_once_where_it_measured(view):
    figure = frontier_figure([view])
    drawn = {
        number: (x, y)
        for trace in marks(figure)
        for (number, _), x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }
    assert sorted(drawn) == [t.number for t in view.trials if t.record is not None]
    for number, (x, y) in drawn.items():
        np.testing.assert_allclose((x, y), view.points[number], rtol=1e-5)


def test_feasible_and_other_trials_are_told_apart_by_who_proposed_them(view):
    for trace in marks(frontier_figure([view])):
        trials = [view.trials[number] for number, _ in trace.customdata]
        feasible = "not feasible" not in trace.name
        assert {t.is_feasible for t in trials} == {feasible}
        assert trace.marker.symbol.endswith("-open") == (not feasible)
        assert len({t.source for t in trials}) == 1
        if not feasible:
            assert all("breaks round_seconds" in note for _, note in trace.customdata)


def test_the_front_and_the_exact_frontier_are_lines_through_their_points(view):
    lines = traces(frontier_figure([view]))
    exact = lines["exact frontier"]
    inside = [p for p in view.record.frontier if p[0] <= 14.0]
    np.testing.assert_allclose(np.column_stack([exact.x, exact.y]), inside, rtol=1e-5)
    front = lines[f"front ({len(view.front)})"]
    np.testing.assert_allclose(np.column_stack([front.x, front.y]), view.points[view.front], 1e-5)


def test_a_trained_study_shows_no_exact_frontier(policies):
    view = StudyView.of(make_study(10, policies, evaluate="training", seeds=(0, 1)))
    figure = frontier_figure([view])
    assert "exact frontier" not in traces(figure)
    assert figure.layout.yaxis.title.text == "1 - deployed accuracy"


def test_several_studies_have_their_names_and_colours(policies):
    views = [StudyView.of(make_study(20, policies, name=n, seed=k)) for k, n in enumerate("ab")]
    figure = frontier_figure(views)
    named = {name[0]: trace for name, trace in traces(figure).items() if ": sampler" in name}
    assert sorted(named) == ["a", "b"]
    assert named["a"].marker.color != named["b"].marker.color
    assert sum("exact" in (trace.name or "") for trace in figure.data) == 1  # it is the same


def test_limits_are_drawn(view):
    notes = [note.text for note in frontier_figure([view]).layout.annotations]
    assert "limit 14 s" in notes


def test_thinned_trials_keep_the_front_and_the_share_of_feasible_ones(policies):
    view = StudyView.of(make_study(1200, policies, limits={"round_seconds": 14.0}))
    drawn = drawn_trials(view)
    assert len(drawn) == MOST_DRAWN == len(set(drawn.tolist()))
    assert set(view.front.tolist()) <= set(drawn.tolist())
    rest = np.setdiff1d(drawn, view.front)
    every = np.setdiff1d(np.arange(1200), view.front)
    share = view.feasible[every].mean()
    assert view.feasible[rest].mean() == pytest.approx(share, abs=2 / len(rest))
    figure = frontier_figure([view])
    assert f"{MOST_DRAWN} drawn" in figure.layout.meta
    assert any(" of " in trace.name for trace in marks(figure))
    for each in (figure, course_figures([view])[0].figure):
        assert len(each.to_json()) < MOST_BYTES


# --- Regret and importance ---


def test_the_regret_is_drawn_where_it_changes(view):
    regret = find_regret(view)
    line = traces(course_figures([view])[0].figure)["all trials"]
    full = dict(zip(regret.trials.tolist(), regret.values.tolist(), strict=True))
    for trial, value in zip(line.x, line.y, strict=True):
        assert value == pytest.approx(full[trial], rel=1e-5)
    assert line.x[-1] == regret.trials[-1]
    assert "the sampler's alone" in traces(course_figures([view])[0].figure)


def test_an_excess_is_drawn_on_a_logarithm_that_has_a_floor(policies):
    view = StudyView.of(make_study(40, policies, tradeoff=1e-6))  # the fastest point is optimal
    figure = course_figures([view])[0].figure
    assert figure.layout.yaxis.type == "log"
    line = traces(figure)["all trials"]
    assert min(line.y) >= 1e-6
    assert line.customdata[-1] == pytest.approx(find_regret(view).last, rel=1e-5)


def test_without_any_feasible_trial_there_is_no_course(policies):
    view = StudyView.of(make_study(5, policies, limits={"round_seconds": 1e-6}))
    assert course_figures([view]) == []
    assert "0 feasible of 5" in frontier_figure([view]).layout.meta


def test_importances_are_bars_by_objective(view, details):
    figure = importance_figure(view, details.importances)
    assert len(figure.data) == 2
    for bars, shares in zip(figure.data, details.importances.values(), strict=True):
        assert dict(zip(bars.y, bars.x, strict=True)) == pytest.approx(shares, rel=1e-4)


# --- Plans ---


def test_the_heat_map_shows_what_the_records_say(view, policies):
    trials = [view.trials[k] for k in view.front.tolist()][:MOST_COLUMNS]
    colours = colours_of(view)
    heat, *legend = allocation_figure(trials, plan_trials(policies, trials[:1]), colours).data
    names = [trace.name for trace in legend]
    assert [trace.marker.color for trace in legend] == [colours[name] for name in names]
    for column, trial in enumerate(trials):
        shown = {int(c): names[row[column]] for c, row in zip(heat.y, heat.z, strict=True)}
        record = trial.record
        expected = [record.menu[int(digit)] for digit in record.choice]
        assert [shown[client] for client in range(len(expected))] == expected
    fastest = policies.free.seconds[:, 1:].min(axis=1)
    assert [int(c) for c in heat.y] == sorted(range(12), key=lambda c: (fastest[c], c))


def test_a_great_fleet_is_thinned_and_says_so():
    great = Policies(clients=1000)
    view = StudyView.of(make_study(20, great))
    trials = list(view.trials)
    figure = allocation_figure(trials)
    assert (len(figure.data[0].y), len(figure.data[0].x)) == (MOST_CLIENTS, MOST_COLUMNS)
    assert "300 of 1000 clients" in figure.layout.meta
    assert "16 of 20 trials" in figure.layout.meta
    assert len(figure.to_json()) < 1.2 * MOST_BYTES


def test_the_waterfall_shows_every_client_and_who_is_waited_for(details):
    for plan in details.trials:
        figure = waterfall_figure(plan)
        bars, allocation = figure.data[0], plan.solution.allocation
        rows = np.arange(len(allocation.choice))
        seconds = plan.problem.seconds[rows, allocation.choice]
        shown = {int(c): y for c, y in zip(bars.x, bars.y, strict=True)}
        np.testing.assert_allclose([shown[c] for c in rows.tolist()], seconds, rtol=1e-4)
        assert list(bars.y) == sorted(bars.y, reverse=True)
        assert figure.layout.shapes[0].y0 == allocation.round_seconds
        notes = " ".join(note.text for note in figure.layout.annotations)
        assert f"everybody waits for client {allocation.bottleneck}" in notes


def test_the_mix_adds_up_to_all_clients(details):
    figure = mix_figure(details.tradeoffs)
    total = np.sum([trace.y for trace in figure.data], axis=0)
    np.testing.assert_allclose(total, 1, rtol=1e-4)
    counts = {trace.name: [n for *_, n in trace.customdata] for trace in figure.data}
    for k, solution in enumerate(details.tradeoffs):
        menu = map(str, solution.problem.strategies)
        expected = dict(zip(menu, solution.allocation.counts().tolist(), strict=True))
        assert {name: own[k] for name, own in counts.items()} == {
            name: n for name, n in expected.items() if name in counts
        }


def test_prices_are_those_of_the_solutions_per_point_and_percent(details):
    figure = prices_figure(details.tradeoffs)
    assert has_prices(details.tradeoffs)
    for trace in figure.data:
        if trace.name.startswith("coverage of class"):
            c = int(trace.name.rsplit(" ", 1)[1])
            expected = [0.01 * s.prices.coverage[c] for s in details.tradeoffs]
            np.testing.assert_allclose(trace.y, expected, rtol=1e-4, atol=1e-12)


def test_every_figure_is_small_and_says_what_it_shows(view, details):
    figures = [
        frontier_figure([view]),
        course_figures([view])[0].figure,
        importance_figure(view, details.importances),
        allocation_figure(view.trials[:16]),
        mix_figure(details.tradeoffs),
        prices_figure(details.tradeoffs),
        *map(waterfall_figure, details.trials),
    ]
    for figure in figures:
        assert len(figure.layout.meta) > 40
        assert len(figure.to_json()) < MOST_BYTES


# --- Cohorts and other measures ---


def test_clients_are_rows_by_their_ids_with_gaps_where_a_cohort_lacks_them():
    few, more = Policies(clients=4, fleet=9), Policies(clients=6, fleet=9, seed=1)
    trials = [StudyView.of(make_study(1, each)).trials[0] for each in (few, more)]
    plans = plan_trials(few, trials[:1])
    heat, *legend = allocation_figure(trials, plans).data
    names = [trace.name for trace in legend]
    assert set(map(int, heat.y)) == {*few.clients, *more.clients}
    assert set(few.clients) != set(more.clients)
    for column, own in enumerate((few, more)):
        shown = {int(c): row[column] for c, row in zip(heat.y, heat.z, strict=True)}
        did = own.plan(trials[column].params, 0).solution.allocation
        for client, place in shown.items():
            if client in own.clients:
                assert names[place] == str(did.strategy(own.clients.index(client)))
            else:
                assert place is None
    fastest = few.free.seconds[:, 1:].min(axis=1)
    known = [few.clients[k] for k in np.argsort(fastest, kind="stable")]
    assert list(map(int, heat.y)) == [*known, *sorted(set(more.clients) - set(known))]


def test_studies_of_different_measures_are_not_drawn_on_one_axis(policies):
    two = StudyView.of(make_study(20, policies, name="two"))
    one = StudyView.of(make_study(20, policies, name="one", tradeoff=30.0))
    drawn = course_figures([two, one])
    assert [course.measure for course in drawn] == [find_regret(v).measure for v in (two, one)]
    assert [len(course.unclaimed) for course in drawn] == [0, 0]
    for course, name in zip(drawn, ("two", "one"), strict=True):
        assert {trace.name.partition(":")[0] for trace in course.figure.data} == {name}
    alike = StudyView.of(make_study(20, policies, name="three", seed=1))
    assert len(course_figures([two, alike])) == 1


def test_a_study_that_claims_no_regret_is_not_left_out_beside_one_that_does(policies):
    with_frontier = StudyView.of(make_study(20, policies, name="a"))
    without = StudyView.of(make_study(20, policies, name="b", frontier=()))
    drawn = course_figures([with_frontier, without])
    assert [bool(course.unclaimed) for course in drawn] == [False, True]
    assert "holds no exact frontier" in drawn[1].unclaimed[0]


def test_a_third_objective_is_told_of_each_trial_and_said_not_to_be_drawn(policies):
    names = ("round_seconds", "accuracy_loss", "energy_joules")
    view = StudyView.of(make_study(30, policies, objectives=names))
    figure = frontier_figure([view])
    assert "Not drawn, but minimised, too: energy joules." in figure.layout.meta
    size = f"{len(view.drawn_front)} of {len(view.front)}"
    line = traces(figure)[f"front of these two ({size})"]
    assert list(line.y) == sorted(line.y, reverse=True)
    for trace in marks(figure):
        for number, note in trace.customdata:
            joules = view.trials[number].record.measures["energy_joules"]
            assert float(note.split()[-2]) == pytest.approx(joules, rel=1e-3)
