"""A study that is read: its front, its best, its regret, against enumeration and Optuna's own."""

import numpy as np
import optuna
import pytest
from optuna._hypervolume import compute_hypervolume
from optuna.trial import TrialState, create_trial
from search_studies import Policies, make_study

from fedhq.allocator import FastestWithin, Knee, MostAccurateWithin, Tradeoff
from fedhq.studies.search.hypervolume import hypervolumes
from fedhq.studies.search.report.importance import find_importances
from fedhq.studies.search.report.parts import origin
from fedhq.studies.search.report.plans import along_tradeoff, plan_trials, tradeoffs_of
from fedhq.studies.search.report.preferences import picks, read_preference, usual_preferences
from fedhq.studies.search.report.regret import (
    Unclaimed,
    exact_points,
    find_progress,
    find_regret,
)
from fedhq.studies.search.report.trial_text import trial_text
from fedhq.studies.search.report.view import State, StudyView, non_dominated
from fedhq.studies.search.report.words import verdict


@pytest.fixture(scope="module")
def policies():
    return Policies(clients=12)


def view_of(policies, trials=60, **changes):
    return StudyView.of(make_study(trials, policies, **changes))


# --- What is read ---


def test_a_foreign_study_is_refused_with_its_name():
    study = optuna.create_study(study_name="theirs")
    with pytest.raises(ValueError, match=r"'theirs' must be one of `fedhq study search`"):
        StudyView.of(study)


def test_trials_are_read_as_optuna_has_them(policies):
    study = make_study(20, policies, failed=2, limits={"round_seconds": 6.0})
    view = StudyView.of(study)
    assert [t.number for t in view.trials] == list(range(22))
    assert (view.count(State.COMPLETE), view.count(State.FAIL)) == (20, 2)
    assert view.trials[-1].reason == "the <device> went away"
    for trial, own in zip(study.trials, view.trials, strict=True):
        assert own.params == trial.params
        assert own.values == tuple(trial.values or ())
    feasible = [all(v <= 0 for v in t.constraints.values()) for t in study.trials[:20]]
    assert view.feasible.tolist() == [*feasible, False, False]


def test_the_front_is_what_optuna_finds(policies):
    for seed in range(5):
        study = make_study(80, policies, seed=seed, limits={"round_seconds": 9.0})
        view = StudyView.of(study)
        best = {tuple(t.values) for t in study.best_trials}  # it lists equal trials more than once
        front = [tuple(point) for point in view.points[view.front].tolist()]
        assert set(front) == best
        assert front == sorted(best)


def test_the_front_of_three_objectives_is_what_optuna_finds(policies):
    off_the_line = 0
    for seed, third in enumerate(("energy_joules", "uplink_bytes")):
        names = ("round_seconds", "accuracy_loss", third)
        study = make_study(
            80, policies, seed=seed, limits={"round_seconds": 20.0}, objectives=names
        )
        view = StudyView.of(study)
        best = {tuple(t.values) for t in study.best_trials}
        assert {tuple(row) for row in view.measured[view.front].tolist()} == best
        off_the_line += len(view.front) - len(view.drawn_front)
        two = view.points[view.feasible]
        assert view.drawn_front.tolist() == [
            k for k in view.front.tolist()
            if not ((two <= view.points[k]).all(axis=1) & (two < view.points[k]).any(axis=1)).any()
        ]  # fmt: skip
        least = view.best_in(third).record.measures[third]
        assert least == min(t.values[2] for t in study.best_trials)
    assert off_the_line > 0


def test_a_single_objective_is_drawn_against_the_loss_and_picked(policies):
    study = make_study(40, policies, objectives=("uplink_bytes",))
    view = StudyView.of(study)
    assert view.axes == ("uplink_bytes", "accuracy_loss")
    found = picks(view)
    assert found[0].words == "Least uplink bytes"
    assert found[0].trial.values[0] == study.best_value
    assert view.points[view.front[0], 0] == study.best_value


def test_what_one_may_want_is_named_after_what_is_traded(policies):
    limits = {"uplink_bytes": 17_000.0}
    view = view_of(policies, 40, objectives=("uplink_bytes", "energy_joules"), limits=limits)
    found = {pick.words: pick.trial for pick in picks(view)}
    assert list(found) == [
        "Least energy joules within 17 kB", "Knee of the front", "Least uplink bytes",
        "Least energy joules",
    ]  # fmt: skip
    feasible = [t.record.measures for t in view.trials if t.is_feasible]
    for name in view.axes:
        least = found[f"Least {name.replace('_', ' ')}"].record.measures[name]
        assert least == min(own[name] for own in feasible)
    assert view.axes == ("uplink_bytes", "energy_joules")
    stated = picks(view, [read_preference("fastest-within=0.5")])
    assert [pick.words for pick in stated] == [
        "Least uplink bytes within 0.5 J of the least energy joules"
    ]


def test_non_dominated_points_are_those_that_enumeration_leaves():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shape = int(rng.integers(1, 25)), int(rng.integers(2, 5))
        points = rng.integers(0, 6, shape).astype(float)
        kept = non_dominated(points)
        beaten = [any((q <= p).all() and (q < p).any() for q in points) for p in points]
        expected = {tuple(p) for p, gone in zip(points.tolist(), beaten, strict=True) if not gone}
        assert {tuple(p) for p in points[kept].tolist()} == expected
        assert len(kept) == len(expected)


def test_rules_pick_among_all_feasible_trials(policies):
    view = view_of(policies, limits={"round_seconds": 14.0})
    points = view.points[view.feasible]
    least = points[:, 1].min()
    within = points[points[:, 1] <= least + 0.05]
    fast = view.best(FastestWithin(0.05))
    assert fast.record.measures["round_seconds"] == within[:, 0].min()
    limit = float(np.median(points[:, 0]))
    accurate = view.best(MostAccurateWithin(limit))
    assert accurate.record.measures["accuracy_loss"] == points[points[:, 0] <= limit, 1].min()
    traded = view.best(Tradeoff(20.0))
    measures = traded.record.measures
    objective = measures["round_seconds"] + 20 * measures["accuracy_loss"]
    assert objective == pytest.approx((points @ [1, 20]).min())


def test_no_feasible_trial_means_no_best(policies):
    view = view_of(policies, 5, limits={"round_seconds": 1e-6})
    assert view.best(Knee()) is None
    assert view.least() is None
    assert find_progress(view) is None


def test_the_least_objective_is_optunas_best_trial(policies):
    study = make_study(50, policies, tradeoff=30.0, limits={"round_seconds": 9.0})
    view = StudyView.of(study)
    assert view.axes == ("round_seconds", "accuracy_loss")
    assert view.objective == "round_seconds + 30 * accuracy_loss"
    assert view.values[view.least().number] == study.best_trial.value


def test_the_loss_comes_second_whatever_the_order_of_objectives(policies):
    view = view_of(policies, 4, objectives=("accuracy_loss", "round_seconds"))
    assert view.axes == ("round_seconds", "accuracy_loss")
    assert view.points[0].tolist() == list(view.trials[0].values)[::-1]


# --- Regret ---


def test_hypervolumes_are_optunas_after_every_point():
    rng = np.random.default_rng(1)
    for _ in range(40):
        points = rng.integers(0, 12, (int(rng.integers(1, 30)), 2)) / 10
        corner = (1.0, 0.9)
        areas = hypervolumes(points, corner)
        for k in range(len(points)):
            inside = points[: k + 1]
            inside = inside[(inside < corner).all(axis=1)]
            expected = compute_hypervolume(inside, np.array(corner)) if len(inside) else 0.0
            assert areas[k] == pytest.approx(expected, abs=1e-12)


def test_the_regret_of_two_objectives_is_the_share_of_the_exact_hypervolume(policies):
    view = view_of(policies, 40)
    regret = find_regret(view)
    exact = np.array(view.record.frontier)
    corner = np.array(regret.reference.corner)
    assert (corner > exact.max(axis=0)).all()
    whole = compute_hypervolume(exact, corner)
    front = view.points[view.front]
    inside = front[(front < corner).all(axis=1)]
    assert regret.last == pytest.approx(1 - compute_hypervolume(inside, corner) / whole)
    assert (np.diff(regret.values) <= 1e-12).all()
    assert 0 <= regret.last < regret.values[0] < 1


def test_a_search_that_was_given_the_whole_frontier_has_no_regret(policies):
    view = view_of(policies, 3)
    record = view.trials[0].record
    frontier = view.record.frontier
    study = make_study(0, policies)
    for time, loss in frontier:
        measures = {"round_seconds": time, "accuracy_loss": loss}
        attributes = {"fedhq": {**record.__dict__, "measures": measures}, "source": "frontier"}
        study.add_trial(create_trial(values=[time, loss], user_attrs=attributes))
    whole = StudyView.of(study)
    assert find_regret(whole).last == pytest.approx(0, abs=1e-12)
    assert np.isnan(find_regret(whole, ("sampler",)).last)


def test_the_regret_of_one_objective_is_relative_to_the_enumerated_optimum(policies):
    for z in (1.0, 30.0, 300.0):
        view = view_of(policies, 40, tradeoff=z)
        regret = find_regret(view)
        best = min(t + z * loss for t, loss in view.record.frontier)
        assert regret.reference.value == pytest.approx(best)
        assert regret.last == pytest.approx(view.values.min() / best - 1)
        assert regret.last >= -1e-9


def test_limits_cut_the_exact_frontier(policies):
    limit = 6.0
    view = view_of(policies, 30, limits={"round_seconds": limit})
    points = exact_points(view)
    inside = [point for point in view.record.frontier if point[0] <= limit]
    assert points.tolist() == [list(point) for point in inside]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluate": "training"}, "Trials were trained"),
        ({"frontier": (), "reference": None}, "holds no exact frontier"),
        ({"limits": {"round_seconds": 1e-6}}, "No point of the exact frontier"),
    ],
)
def test_no_regret_is_claimed_where_none_is_known(policies, changes, reason):
    view = view_of(policies, 3, **changes)
    for found in (find_regret(view), exact_points(view)):
        assert isinstance(found, Unclaimed)
        assert reason in found.reason


def with_record(study, **changes):
    """The study with another record, read."""
    study.set_user_attr("fedhq", {**study.user_attrs["fedhq"], **changes})
    return StudyView.of(study)


def test_of_other_limits_and_of_several_seeds_none_is_known(policies):
    search = {"evaluate": "model", "objectives": ["round_seconds", "accuracy_loss"]}
    for changes, reason in (
        ({"limits": {"uplink_bytes": 9.0}}, "limits uplink_bytes"),
        ({"config": {"search": search | {"seeds": [0, 1]}}}, "each seed has a frontier of its own"),
        ({"config": {"search": search | {"objectives": ["uplink_bytes"]}}}, "not of uplink_bytes"),
    ):
        view = with_record(make_study(3, policies), **changes, reference=None)
        assert reason in find_regret(view).reason


def test_what_is_not_proven_of_the_optimum_is_told(policies):
    study = make_study(40, policies, tradeoff=30.0)
    best = StudyView.of(study).record.reference.value
    for share, told in ((0.0, "above the exact optimum"), (0.02, "at most")):
        bound = best * (1 - share)
        view = with_record(study, reference={"value": best, "bound": bound, "corner": None})
        regret = find_regret(view)
        least = view.values[view.feasible].min()
        assert regret.last == pytest.approx(least / best - 1)
        assert regret.at_most(regret.last) == pytest.approx(least / bound - 1)
        assert told in verdict(view)
        assert ("exact optimum" in verdict(view)) == (share == 0)


def test_what_is_not_proven_of_the_hypervolume_is_told(policies):
    study = make_study(40, policies)
    known = StudyView.of(study).record.reference
    reference = {"value": known.value, "bound": 1.05 * known.value, "corner": list(known.corner)}
    view = with_record(study, reference=reference)
    regret = find_regret(view)
    reached = (1 - regret.last) * known.value
    assert regret.at_most(regret.last) == pytest.approx(1 - reached / (1.05 * known.value))
    assert "of the known frontier's hypervolume is missing" in verdict(view)
    assert f"at most {100 * regret.at_most(regret.last):.4g} %" in verdict(view)


def test_a_thinned_frontier_changes_no_regret(policies):
    study = make_study(40, policies, tradeoff=30.0)
    whole = StudyView.of(study)
    thinned = with_record(study, frontier=[whole.record.frontier[0], whole.record.frontier[-1]])
    assert find_regret(thinned).last == find_regret(whole).last


def test_trials_that_nobody_needs_are_no_failures(policies):
    study = make_study(6, policies, failed=1)
    for lost in ("spare", "twin", "stopped"):
        attributes = {"lost": lost, "reason": f"it was {lost}."}
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))
    died = {"lost": "died", "reason": "its worker died."}
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=died))
    view = StudyView.of(study)
    assert [t.number for t in view.failures] == [6, 10]
    again = create_trial(state=TrialState.WAITING, user_attrs={"retry_of": 10})
    study.add_trial(again)
    view = StudyView.of(study)
    assert [t.number for t in view.failures] == [6]
    assert [t.number for t in view.set_aside] == [7, 8, 9, 10]
    assert verdict(view).startswith("Of 8 trials 6 are feasible, 1 failed, 1 are not finished.")
    told = origin(view)
    assert "6 complete, 1 fail, 1 waiting; 1 repeats one whose worker died" in told
    assert "3 set aside: stopped, or not needed" in told
    assert "it was spare" not in told


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("died", "trial 6, whose worker died"),
        ("stopped", "trial 6, whose worker was stopped"),
        ("spare", "trial 6, that was one too many"),
    ],
)
def test_a_trial_says_why_it_repeats_another(policies, lost, told):
    study = make_study(6, policies)
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"lost": lost}))
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={"retry_of": 6}))
    view = StudyView.of(study)
    assert told in trial_text(view, view.trials[7], policies)


def test_progress_ends_with_all_of_the_front(policies):
    view = view_of(policies, 40, evaluate="training", seeds=(0, 1))
    course = find_progress(view)
    assert course.last == pytest.approx(1)
    assert (np.diff(course.values[np.isfinite(course.values)]) >= 0).all()
    trials, values = course.steps()
    assert trials[-1] == 39
    assert len(trials) < 40
    assert set(values) <= set(course.values)


# --- Preferences, plans, importances ---


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("knee", Knee()),
        ("fastest-within=0.02", FastestWithin(0.02)),
        ("most-accurate-within=5", MostAccurateWithin(5.0)),
        ("tradeoff=30", Tradeoff(30.0)),
    ],
)
def test_preferences_are_read_as_rules(text, rule):
    assert read_preference(text).rule == rule
    assert read_preference(text).words(("round_seconds", "accuracy_loss"))


@pytest.mark.parametrize("text", ["", "fast", "tradeoff=", "tradeoff=x", "tradeoff=-1", "knee=1"])
def test_other_preferences_are_errors(text):
    with pytest.raises(ValueError, match="must"):
        read_preference(text)


def test_usual_preferences_begin_with_what_the_search_states(policies):
    view = view_of(policies, 3, tradeoff=30.0, limits={"round_seconds": 9.0})
    texts = [preference.text for preference in usual_preferences(view)]
    assert texts[:2] == ["tradeoff=30.0", "most-accurate-within=9.0"]


def test_plans_agree_with_their_records(policies):
    view = view_of(policies, 12)
    plans = plan_trials(policies, view.trials)
    assert [plan.trial.number for plan in plans] == list(range(12))
    assert all(plan.agrees for plan in plans)
    other = plan_trials(Policies(clients=12, seed=1), view.trials)
    assert not all(plan.agrees for plan in other)


def test_tradeoffs_reach_both_ends_of_the_frontier(policies):
    frontier = policies.frontier
    points = np.column_stack([frontier.round_seconds, frontier.loss])
    solutions = along_tradeoff(policies.free, points)
    seconds = [s.allocation.round_seconds for s in solutions]
    assert (seconds[0], seconds[-1]) == (points[0, 0], points[-1, 0])
    assert seconds == sorted(seconds)
    for solution in solutions:  # each is the least of all that the exact frontier offers
        z = solution.problem.tradeoff
        least = (points @ [1, z]).min()
        assert solution.allocation.objective == pytest.approx(least, rel=1e-3)


def test_tradeoffs_are_those_of_the_lower_hull():
    points = np.array([[1.0, 0.9], [2.0, 0.5], [3.0, 0.45], [4.0, 0.1]])  # the third is above it
    slopes = tradeoffs_of(points)
    assert slopes[0] == pytest.approx(0.5 / 0.4)
    assert slopes[-1] == pytest.approx(2 * 2 / 0.4)
    assert not len(tradeoffs_of(points[:1]))


def test_importances_find_the_parameter_that_decides():
    study = make_study(0, Policies(clients=4))
    rng = np.random.default_rng(0)
    kind = optuna.distributions.FloatDistribution(0, 1)
    for _ in range(100):
        x, y = rng.random(2)
        study.add_trial(
            create_trial(
                values=[x, 1 - y], params={"x": x, "y": y}, distributions={"x": kind, "y": kind}
            )
        )
    found = find_importances(study, StudyView.of(study))
    assert found["round_seconds"]["x"] > 0.8
    assert found["accuracy_loss"]["y"] > 0.8


def test_a_few_trials_have_no_importances(policies):
    study = make_study(8, policies)
    assert find_importances(study, StudyView.of(study)) == {}


def test_unfinished_trials_count_for_nothing(policies):
    study = make_study(10, policies)
    study.enqueue_trial({"allocation.share": 0.5})
    study.add_trial(create_trial(state=TrialState.RUNNING))
    view = StudyView.of(study)
    assert (view.count(State.WAITING), view.count(State.RUNNING)) == (1, 1)
    assert len(find_regret(view).trials) == 10
