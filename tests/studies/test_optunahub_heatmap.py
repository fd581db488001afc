"""The heatmap shows what the best trials did, from parameters or from fedhq's record."""

import sys
from pathlib import Path

import optuna
import optunahub
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.trial import create_trial

from fedhq.studies import palette
from fedhq.studies.search.record import TRIAL_KEY, TrialRecord, digits, to_json

REGISTRY = Path(__file__).parents[2] / "studies" / "optunahub" / "package"
hub = optunahub.load_local_module("visualization/allocation_heatmap", registry_root=str(REGISTRY))
plot = hub.plot_allocation_heatmap
hub_colours = sys.modules[f"{hub.__name__}._colours"].strategy_colours
MENU = ("skip", "ptq-w2a2", "qat-w2a2")
NAMES = [f"client_{k}" for k in range(12)]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def study_of(rows, directions=("minimize",)):
    """A study of finished trials: each what its clients do, its values and constraints."""
    study = optuna.create_study(directions=list(directions))
    for doing, values, constraints in rows:
        params = dict(zip(NAMES, doing, strict=False))
        kinds = dict.fromkeys(params, CategoricalDistribution(MENU))
        study.add_trial(
            create_trial(params=params, distributions=kinds, values=values, constraints=constraints)
        )
    return study


def heatmap(figure):
    (found,) = (trace for trace in figure.data if trace.type == "heatmap")
    return found


def bars(figure):
    return [list(trace.y) for trace in figure.data if trace.type == "bar"]


def columns(figure):
    """What is shown of each trial, by its number."""
    shown = heatmap(figure)
    by_column = zip(*shown.text, strict=True)
    return {
        int(label[1:]): dict(zip(shown.y, column, strict=True))
        for label, column in zip(shown.x, by_column, strict=True)
    }


def two_values(trial):
    doing = [trial.suggest_categorical(name, MENU) for name in NAMES]
    seconds = max((1 + k) * MENU.index(d) for k, d in enumerate(doing))
    trial.set_constraint("somebody", 1 - doing.count("qat-w2a2"))
    return seconds, sum(2 - MENU.index(d) for d in doing)


def test_the_columns_are_the_feasible_front_as_the_trials_have_it():
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=RandomSampler(seed=0))
    study.optimize(two_values, n_trials=300)
    figure = plot(study)
    shown = columns(figure)
    trials = {t.number: t for t in study.best_trials}
    assert len(shown) > 3
    assert shown == {number: trials[number].params for number in shown}
    distinct = {tuple(t.params.items()) for t in trials.values()}
    assert {tuple(params.items()) for params in shown.values()} == distinct
    seconds, loss = bars(figure)
    assert seconds == sorted(seconds)
    assert list(zip(seconds, loss, strict=True)) == [tuple(trials[k].values) for k in shown]


def test_a_colour_of_the_heatmap_is_that_of_the_legend():
    study = study_of([(MENU, [1.0], {}), ((MENU[1],) * 3, [2.0], {})])
    figure = plot(study)
    legend = {t.name: t.marker.color for t in figure.data if t.type == "scatter"}
    assert list(legend) == list(MENU)
    shown = heatmap(figure)
    for row, texts in zip(shown.z, shown.text, strict=True):
        for code, text in zip(row, texts, strict=True):
            place = (code - shown.zmin) / (shown.zmax - shown.zmin)
            below = [colour for edge, colour in shown.colorscale if edge < place]
            above = [colour for edge, colour in shown.colorscale if edge > place]
            assert below[-1] == above[0] == legend[text]


@pytest.mark.parametrize(
    ("direction", "expected"), [("minimize", [1, 0, 3]), ("maximize", [3, 0, 1])]
)
def test_with_one_objective_the_best_feasible_trials_stand_first(direction, expected):
    rows = [
        (MENU, [2.0], {"c": -1.0}),
        (("skip", "skip", "skip"), [1.0], {"c": 0.0}),
        (("ptq-w2a2",) * 3, [0.5], {"c": 0.1}),
        (("qat-w2a2",) * 3, [3.0], {}),
    ]
    assert list(columns(plot(study_of(rows, [direction])))) == expected


def test_an_allocation_that_several_trials_found_stands_once():
    rows = [(MENU, [2.0], {}), (MENU, [2.0], {}), (MENU[::-1], [3.0], {})]
    assert list(columns(plot(study_of(rows)))) == [0, 2]


def test_a_long_front_is_thinned_evenly_and_keeps_its_ends():
    rows = [
        ([MENU[(k >> bit) & 1] for bit in range(6)], [float(k), -float(k)], {}) for k in range(41)
    ]
    study = study_of(rows, ["minimize", "minimize"])
    assert list(columns(plot(study, limit=5))) == [0, 10, 20, 30, 40]
    assert list(columns(plot(study, limit=1))) == [0]


def test_clients_stand_in_their_natural_order_and_those_given_as_given():
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    names = ["client_10", "client_2", "other"]
    study.optimize(lambda t: len([t.suggest_categorical(n, MENU) for n in names]), n_trials=3)
    assert heatmap(plot(study)).y == ("client_2", "client_10")
    assert heatmap(plot(study, clients=["other", "client_10"])).y == ("other", "client_10")


def record(choice, ids=""):
    return TrialRecord(
        "model",
        (0,),
        {},
        ({},),
        MENU,
        digits(choice),
        0,
        "Exact()",
        "optimal",
        0.0,
        0.1,
        "",
        "",
        ids,
    )


def test_it_reads_what_a_search_of_fedhq_records():
    study = optuna.create_study(sampler=RandomSampler(seed=0))

    def objective(trial):
        choice = [trial.suggest_int("k", 0, 2), 1, 2, trial.number % 3]
        trial.set_user_attr(TRIAL_KEY, to_json(record(choice)))
        return sum(choice)

    study.optimize(objective, n_trials=20)
    shown = columns(plot(study))
    assert len(shown) == 9  # all there are
    for number, doing in shown.items():
        first = study.trials[number].params["k"]
        expected = [MENU[k] for k in (first, 1, 2, number % 3)]
        assert list(doing.values()) == expected
    assert list(doing) == ["0", "1", "2", "3"]


def test_clients_of_a_cohort_are_rows_by_their_ids():
    study = optuna.create_study(sampler=RandomSampler(seed=0))

    def objective(trial):
        trial.set_user_attr(TRIAL_KEY, to_json(record([0, 1, 2, 1], "2 5-7")))
        return 0.0

    study.optimize(objective, n_trials=1)
    assert columns(plot(study))[0] == dict(
        zip(("2", "5", "6", "7"), (MENU[k] for k in (0, 1, 2, 1)), strict=True)
    )


def test_trials_that_are_given_are_plotted_whatever_they_are_worth():
    rows = [(MENU, [2.0], {"c": 1.0}), (MENU[::-1], [3.0], {})]
    study = study_of(rows)
    assert list(columns(plot(study))) == [1]
    assert list(columns(plot(study, trials=study.trials))) == [0, 1]


def test_a_client_that_a_trial_does_not_know_is_blank():
    rows = [(MENU[:2], [1.0], {}), (MENU, [2.0], {})]
    shown = heatmap(plot(study_of(rows)))
    assert [row[0] for row in shown.text] == ["skip", "ptq-w2a2", None]
    assert shown.z[2][0] is None


def test_a_study_that_does_not_say_what_clients_do_is_an_error():
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    with pytest.raises(ValueError, match="2 are finished and feasible"):
        plot(study)
    with pytest.raises(ValueError, match="`limit >= 1`"):
        plot(study, limit=0)


def test_the_colours_are_those_of_fedhqs_reports():
    menu = {"skip", "fp32", "ptq-w2a2", "ptq-w4a4", "ptq-w8a8", "qat-w2a2-u8", "qat-w2a2"}
    assert hub_colours(menu) == palette.strategy_colours(menu)


def test_strategies_of_other_fields_have_hues_of_their_own():
    found = hub_colours({"night", "day", "off-duty"})
    assert len(set(found.values())) == 3
