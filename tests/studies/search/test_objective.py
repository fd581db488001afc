"""What Optuna is told of a trial: values, constraints, records, prunings and failures."""

import math
import warnings

import optuna
import pytest
from optuna.trial import TrialState
from search_tables import PICK_LOSS, modelled, of_table, tiny, write_table

from fedhq.allocator import CheckpointError, Exact, solve
from fedhq.allocator.errors import DivergedError
from fedhq.allocator.instances.families import FAMILIES
from fedhq.fl_core import Trainer
from fedhq.studies.search.config.settings import parse_search
from fedhq.studies.search.record import REASON_KEY, trial_record
from fedhq.studies.search.trials.modelled import Measured, Modelled
from fedhq.studies.search.trials.objective import DIVERGED, POLICY, Objective
from fedhq.studies.search.trials.policy import Policies
from fedhq.studies.search.trials.sampling import make_pruner, make_sampler
from fedhq.studies.search.trials.trained import Trained


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def search(table, folder, trials: int, **more) -> tuple[optuna.Study, Objective]:
    config = parse_search(table)
    objective = Objective(config, folder, "here")
    study = optuna.create_study(
        directions=["minimize"] * len(config.objectives),
        sampler=make_sampler(config, objective.space),
        pruner=make_pruner(config),
    )
    study.optimize(objective, trials, **more)
    return study, objective


def test_a_trials_values_and_record_are_what_the_policy_comes_to(tmp_path) -> None:
    table = modelled(seeds=[0, 3], limits={"round_seconds": 0.05})
    study, objective = search(table, tmp_path, 8)
    for trial in study.trials:
        record = trial_record(trial.user_attrs)
        plans = [objective.policies.plan(trial.params, seed) for seed in (0, 3)]
        seconds = [plan.solution.allocation.round_seconds for plan in plans]
        assert record.per_seed == tuple(plan.measures for plan in plans)
        assert trial.values[0] == record.measures["round_seconds"] == sum(seconds) / 2
        assert trial.values[1] == record.measures["accuracy_loss"]
        assert record.choice == plans[0].choice
        assert sum(record.counts.values()) == 20
        assert record.bottleneck == plans[0].solution.allocation.bottleneck
        assert (record.seeds, record.evaluated, record.provenance) == ((0, 3), "model", "here")
        assert record.digest == objective.policies.digest(trial.params)
        over = trial.constraints["round_seconds"]
        assert over == pytest.approx(record.measures["round_seconds"] / 0.05 - 1)
    feasible = {t.number for t in study.trials if t.values[0] <= 0.05}
    assert 0 < len(feasible) < 8
    assert {t.number for t in study.best_trials} <= feasible


def test_a_trial_may_be_asked_and_told(tmp_path) -> None:
    config = parse_search(modelled())
    objective = Objective(config, tmp_path)
    study = optuna.create_study(directions=["minimize", "minimize"])
    trial = study.ask()
    study.tell(trial, objective(trial))
    assert (
        study.trials[0].values == list(objective.policies.plan(trial.params).measures.values())[:2]
    )


def test_each_constraint_is_told_once_by_its_name(tmp_path) -> None:
    study, _ = search(modelled(limits={"round_seconds": 0.05, "uplink_bytes": 1e6}), tmp_path, 2)
    for trial in study.trials:
        assert list(trial.constraints) == ["round_seconds", "uplink_bytes"]


def test_a_policy_that_leaves_no_allocation_is_pruned_and_tpe_learns_from_it(tmp_path) -> None:
    policies = Policies(parse_search(modelled()))
    fastest = float(policies.frontier().round_seconds[0])
    space = {"allocation.deadline_seconds": {"low": fastest / 50, "high": fastest * 1.5}}
    study, _ = search(modelled(space=space), tmp_path, 60)
    pruned = study.get_trials(states=[TrialState.PRUNED])
    for trial in pruned:
        deadline = trial.params["allocation.deadline_seconds"]
        assert trial.values is None
        assert trial.constraints[POLICY] == pytest.approx(fastest / deadline - 1)
        assert "no allocation keeps deadline_seconds" in trial.user_attrs[REASON_KEY]
    share = fastest * (1 - 1 / 50) / (fastest * (1.5 - 1 / 50))  # of the space
    assert len(pruned) < 60 * share / 2
    assert all(
        t.params["allocation.deadline_seconds"] >= fastest * 0.999 for t in study.best_trials
    )


def test_what_cannot_be_evaluated_raises(tmp_path) -> None:
    table = tiny(space={"training.learning_rate": {"choices": [0.1]}})
    trained = Trained(Policies(parse_search(table)), tmp_path)
    folder = trained.run_folder({"training.learning_rate": 0.1}, 0)
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError):
        search(table, tmp_path, 1)


DIVERGING = {"training.learning_rate": {"low": 1e-2, "high": 1e30, "log": True}}


def test_a_diverged_trial_is_finished_infeasible_and_on_no_front(tmp_path) -> None:
    table = tiny(space=DIVERGING) | {"allocation": {"solver": "uniform"}}
    config = parse_search(table)
    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=make_sampler(config, Objective(config, tmp_path).space),
    )
    for rate in (1e30, 0.1, 1e20, 0.2):
        study.enqueue_trial({"training.learning_rate": rate})
    study.optimize(Objective(config, tmp_path), 4)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    broken, sound = study.trials[::2], study.trials[1::2]
    for trial in broken:
        assert trial.values[1] == 1.0
        assert trial.values[0] == pytest.approx(sound[0].values[0])  # so long its rounds took
        assert trial.constraints[DIVERGED] == 1.0
        assert trial.user_attrs[REASON_KEY].startswith("diverged: no client gave a usable update")
        assert trial_record(trial.user_attrs).choice == "2222"
    for trial in sound:
        assert trial.values[1] < 1.0
        assert trial.constraints[DIVERGED] <= 0
        assert REASON_KEY not in trial.user_attrs
    assert {t.number for t in study.best_trials} <= {1, 3}


@pytest.mark.parametrize(
    ("sampler", "trials"), [("tpe", 60), pytest.param("gp", 25, marks=pytest.mark.slow)]
)
def test_samplers_learn_where_training_diverges(tmp_path, monkeypatch, sampler, trials) -> None:
    def evaluate(self, params, seed) -> Measured:
        rate = params["training.learning_rate"]
        told = "diverged: too fast." if rate > 1 else ""
        loss = 1.0 if told else 0.3 - 0.1 * math.log10(rate)  # the best is at the brink
        measures = {"round_seconds": 1.0, "accuracy_loss": loss}
        return Measured(measures, ("fp32",), (0, 1, 2, 3), "0000", 0, "", "", None, diverged=told)

    monkeypatch.setattr(Trained, "__call__", evaluate)
    space = {"training.learning_rate": {"low": 1e-2, "high": 1e8, "log": True}}
    study, _ = search(tiny(space=space, sampler=sampler, tradeoff=30.0), tmp_path, trials)
    drawn = [t.params["training.learning_rate"] for t in study.trials[10:]]  # the first by chance
    assert sum(rate <= 1 for rate in drawn) > 0.4 * len(drawn)  # by chance 0.2
    assert 0.03 < study.best_params["training.learning_rate"] <= 1


def test_the_constraint_is_the_share_of_seeds_that_diverged(tmp_path, monkeypatch) -> None:
    table = tiny(seeds=[0, 1, 2], space={"training.learning_rate": {"low": 0.1, "high": 0.2}})

    def diverges(self, number, engine):
        if self._federation.seed > 0:
            raise DivergedError("the weights are not finite.")
        return sound(self, number, engine)

    sound = Trainer._round
    monkeypatch.setattr(Trainer, "_round", diverges)
    study, objective = search(table, tmp_path, 1)
    (trial,) = study.trials
    assert trial.constraints[DIVERGED] == pytest.approx(2 / 3)
    assert trial.user_attrs[REASON_KEY] == "diverged: the weights are not finite."
    record = trial_record(trial.user_attrs)
    losses = [seed["accuracy_loss"] for seed in record.per_seed]
    assert losses[1:] == [1.0, 1.0]
    assert trial.values[1] == pytest.approx((losses[0] + 2) / 3)
    for seed, own in zip((1, 2), record.per_seed[1:], strict=True):  # no round was recorded
        plan = objective.policies.plan(trial.params, seed)
        assert own["round_seconds"] == plan.measures["round_seconds"]


def test_one_objective_of_two_gives_up_trials_that_are_worse_on_the_seeds_so_far(tmp_path) -> None:
    seeds = list(range(6))
    table = modelled(tradeoff=0.3, seeds=seeds, sampler="random")
    study, objective = search(table, tmp_path, 25)
    pruned = study.get_trials(states=[TrialState.PRUNED])
    assert pruned
    whole = {t.number: t for t in study.get_trials(states=[TrialState.COMPLETE])}
    for trial in pruned:
        before = [t for number, t in whole.items() if number < trial.number]
        best = min(before, key=lambda t: t.value)
        steps = trial.intermediate_values
        worse = [steps[k] > best.intermediate_values[k] for k in steps]
        assert sum(worse) > len(steps) / 2
        record = trial_record(trial.user_attrs)
        assert record.seeds == tuple(seeds[: len(steps)])
        assert 3 <= len(steps) < 6
        # Had it gone on, it would not have become the best of all:
        measured = [Modelled(objective.policies)(trial.params, seed).measures for seed in seeds]
        mean = sum(m["round_seconds"] + 0.3 * m["accuracy_loss"] for m in measured) / 6
        assert mean > study.best_value
    for trial in whole.values():
        record = trial_record(trial.user_attrs)
        assert trial.value == record.measures["objective"]
        assert list(trial.intermediate_values) == seeds
        values = trial.intermediate_values.values()
        assert trial.value == pytest.approx(sum(values) / 6)


def test_a_target_that_one_seed_misses_makes_a_trial_infeasible(tmp_path) -> None:
    objectives = ["seconds_to_target", "accuracy_loss"]
    easy = tiny(objectives=objectives, target_accuracy=0.01)
    hard = tiny(objectives=objectives, target_accuracy=0.99)
    (reached,) = search(easy, tmp_path, 1)[0].trials
    (missed,) = search(hard, tmp_path, 1)[0].trials
    assert reached.constraints["target_accuracy"] < 0 < missed.constraints["target_accuracy"]
    record = trial_record(missed.user_attrs)
    assert missed.values[0] == pytest.approx(3 * record.measures["round_seconds"])
    assert reached.values[0] < missed.values[0]


@pytest.mark.parametrize(
    "sampler", ["tpe", "nsga2", "random", pytest.param("gp", marks=pytest.mark.slow)]
)
def test_every_sampler_goes_on_after_uniform_arms(tmp_path, sampler) -> None:
    space = {"allocation.pick_loss": PICK_LOSS, "wire_bits": {"choices": [3, 4, 8]}}
    config = parse_search(modelled(sampler=sampler, space=space, tradeoff=0.3))
    objective = Objective(config, tmp_path)
    study = optuna.create_study(sampler=make_sampler(config, objective.space))
    if sampler != "gp":
        for arm in ("ptq-w2a2", "qat-w2a2"):
            study.enqueue_trial({"arm": arm}, {"source": "uniform"})
    trials = {"nsga2": 112, "tpe": 62, "gp": 13}.get(sampler, 22)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study.optimize(objective, trials)
    others = [t for t in study.trials if "arm" not in t.params]
    assert all(t.state is TrialState.COMPLETE for t in study.trials)
    assert all(set(t.params) == set(space) for t in others)
    if sampler in ("tpe", "nsga2"):  # what they learned shows: nsga2's third generation has parents
        early = others[:50] if sampler == "nsga2" else others[:10]
        assert mean_value(others[-10:]) < mean_value(early)


def mean_value(trials) -> float:
    return sum(t.value for t in trials) / len(trials)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_sixty_trials_over_the_policy_come_within_a_hundredth_of_the_optimum(
    tmp_path, seed
) -> None:
    problem = FAMILIES["federated"](seed, 100)
    best = solve(problem, Exact()).allocation.objective
    path = write_table(tmp_path / "fleet.json", problem)
    table = of_table(path, {"pick_loss": PICK_LOSS}, tradeoff=problem.tradeoff, seed=seed)
    study, _ = search(table, tmp_path, 60)
    assert best * (1 - 1e-9) <= study.best_value <= 1.01 * best
