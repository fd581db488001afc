"""The time model on simulated fleets whose true times are known, and quantile times by lot."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from fedhq.allocator import Outcome, parse_menu
from fedhq.allocator.adjust import TimeModel, quantile_seconds
from fedhq.allocator.adjust.effects import CLIP, huber_centre

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2", "fp32"])
NUM_CLIENTS = 12
CLASSES = ["phone", "watch", "board"] * 4


class Fleet:
    """True times: a table that is wrong by class, strategy, client, and both."""

    def __init__(self, seed: int, own: float = 0.1) -> None:
        self.rng = np.random.default_rng(seed)
        self.table = np.outer(np.exp(self.rng.normal(2, 0.5, NUM_CLIENTS)), [0, 1, 1.4, 0.9])
        strategy, of_class = np.array([0, 0.3, -0.2, 0.1]), np.tile([0.4, -0.3, 0.0], 4)
        client = self.rng.normal(0, 0.3, NUM_CLIENTS)
        special = self.rng.normal(0, own, self.table.shape)
        self.truth = self.table * np.exp(strategy + (of_class + client)[:, None] + special)

    def round(self, columns, noise: float = 0.0, stalls: float = 0.0) -> list[Outcome]:
        outcomes = []
        for i, s in enumerate(columns):
            stall = 10.0 if self.rng.random() < stalls else 1.0
            seconds = self.truth[i, s] * np.exp(self.rng.normal(0, noise)) * stall
            outcomes.append(Outcome(i, MENU[s], float(seconds), True))
        return outcomes

    def any_columns(self, first: int = 1):
        return self.rng.integers(first, len(MENU), NUM_CLIENTS)


def off(model: TimeModel, truth) -> np.ndarray:
    """`(clients, strategies)` relative error of all that takes part."""
    return np.abs(np.log(model.predict().seconds[:, 1:] / truth[:, 1:]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fleets_true_times_are_recovered(seed) -> None:
    fleet = Fleet(seed)
    model = TimeModel(MENU, fleet.table, CLASSES)
    before = off(model, fleet.truth).mean()
    for _ in range(24):
        model.observe(fleet.round(fleet.any_columns(), noise=0.05))
    assert off(model, fleet.truth).mean() < 0.05 < 0.2 < before
    assert off(model, fleet.truth).max() < 0.2


def test_times_that_come_as_predicted_change_no_bit_of_the_table() -> None:
    fleet = Fleet(0)
    fleet.truth = fleet.table
    model = TimeModel(MENU, fleet.table, CLASSES)
    for _ in range(5):
        model.observe(fleet.round(fleet.any_columns()))
        failed = [Outcome(i, MENU[2], float(fleet.table[i, 2]), False) for i in range(NUM_CLIENTS)]
        model.observe(failed)
    assert model.predict().seconds.tobytes() == fleet.table.tobytes()


def test_a_device_that_slows_down_by_half_is_followed_within_five_rounds() -> None:
    fleet = Fleet(1)
    model = TimeModel(MENU, fleet.table, CLASSES)
    columns = np.full(NUM_CLIENTS, 2)
    for k in range(12):
        model.observe(fleet.round(np.full(NUM_CLIENTS, 1) if k < 4 else columns, noise=0.02))
    settled = model.predict().seconds.copy()
    fleet.truth[3] *= 2
    errors = []
    for _ in range(5):
        model.observe(fleet.round(columns, noise=0.02))
        errors.append(abs(np.log(model.predict().seconds[3, 2] / fleet.truth[3, 2])))
    assert errors[0] > 0.4  # one slow round is no proof yet
    assert errors[-1] < 0.08
    # Who is slow at one strategy is slow at what it did before, and nobody else is.
    assert model.predict().seconds[3, 1] / settled[3, 1] == pytest.approx(2, rel=0.15)
    others = np.delete(np.arange(NUM_CLIENTS), 3)
    assert model.predict().seconds[others, 2] == pytest.approx(settled[others, 2], rel=0.05)


def test_a_device_that_recovers_is_followed_too() -> None:
    fleet = Fleet(2)
    model = TimeModel(MENU, fleet.table)
    columns = np.full(NUM_CLIENTS, 2)
    for factor in (1.0, 3.0, 1 / 3):
        fleet.truth[5] *= factor
        for _ in range(6):
            model.observe(fleet.round(columns, noise=0.02))
    assert model.predict().seconds[5, 2] == pytest.approx(fleet.truth[5, 2], rel=0.08)


def test_a_single_stall_is_ignored_early_and_late() -> None:
    for rounds_before in (0, 1, 8):
        fleet = Fleet(3)
        fleet.truth = fleet.table.copy()
        model = TimeModel(MENU, fleet.table, CLASSES)
        for _ in range(rounds_before):
            model.observe(fleet.round(np.full(NUM_CLIENTS, 2)))
        stalled = fleet.round(np.full(NUM_CLIENTS, 2))
        stalled[4] = Outcome(4, MENU[2], 10 * stalled[4].seconds, True)
        model.observe(stalled)
        assert off(model, fleet.truth).max() < 0.25, rounds_before
    assert off(model, fleet.truth).max() < 0.1


def test_stalls_of_one_round_in_twenty_hardly_change_the_estimates() -> None:
    medians = []
    for stalls in (0.0, 0.05):
        errors = []
        for seed in range(2):
            fleet = Fleet(seed)
            model = TimeModel(MENU, fleet.table, CLASSES)
            for k in range(30):
                model.observe(fleet.round(fleet.any_columns(), noise=0.05, stalls=stalls))
                if k >= 20:
                    errors.append(off(model, fleet.truth).ravel())
        medians.append(np.median(errors))
        assert np.quantile(errors, 0.9) < 0.15
    assert medians[1] < medians[0] + 0.01


def test_a_strategy_never_tried_by_a_client_is_predicted_from_what_others_do() -> None:
    untried, of_table = [], []
    for seed in range(4):
        fleet = Fleet(seed, own=0.0)
        model = TimeModel(MENU, fleet.table, CLASSES)
        for _ in range(10):
            columns = fleet.any_columns()
            columns[:3] = 1  # one client of each class does nothing but ptq
            model.observe(fleet.round(columns, noise=0.03))
        untried.append(off(model, fleet.truth)[:3, 1:])
        of_table.append(off(TimeModel(MENU, fleet.table), fleet.truth)[:3, 1:])
    assert np.median(untried) < 0.1
    assert np.mean(untried) < 0.12 < 0.3 < np.mean(of_table)


def test_a_client_never_seen_is_predicted_from_its_class() -> None:
    fleet = Fleet(5, own=0.0)
    slow = np.array([2.0 if name == "watch" else 1.0 for name in CLASSES])
    fleet.truth = fleet.table * slow[:, None]
    model = TimeModel(MENU, fleet.table, CLASSES)
    for _ in range(8):
        model.observe([o for o in fleet.round(np.full(NUM_CLIENTS, 2)) if o.client != 1])
    assert model.predict().seconds[1, 2] == pytest.approx(fleet.truth[1, 2], rel=0.1)
    assert model.predict().seconds[1, 1] == pytest.approx(fleet.truth[1, 1], rel=0.1)


def test_what_is_special_to_one_strategy_of_a_client_is_not_forgotten() -> None:
    fleet = Fleet(6, own=0.0)
    fleet.truth = fleet.table.copy()
    fleet.truth[2, 2] *= 4  # no kernels for qat
    model = TimeModel(MENU, fleet.table, CLASSES)
    for k in range(40):
        model.observe(fleet.round(np.full(NUM_CLIENTS, 2 if k % 3 == 0 and k < 20 else 1)))
    assert model.predict().seconds[2, 2] == pytest.approx(fleet.truth[2, 2], rel=0.2)
    assert model.predict().seconds[2, 1] == pytest.approx(fleet.truth[2, 1], rel=0.05)


# Unknown times.


def test_unknown_times_follow_the_ratios_of_the_known_ones() -> None:
    truth = np.outer([1.0, 3.0, 10.0, 2.0], [0, 1, 2, 1.5])
    table = truth.copy()
    table[0, 2] = table[1, 1] = table[2, 3] = np.nan
    seconds = TimeModel(MENU, table).predict().seconds
    np.testing.assert_allclose(seconds, truth, rtol=0.05)
    known = ~np.isnan(table)
    assert seconds[known].tolist() == table[known].tolist()


def test_a_client_of_which_nothing_is_known_is_like_its_class() -> None:
    table = np.outer([1.0, 1.1, 8.0, 8.2, np.nan], [0, 1, 2, 1.5])
    table[:, 0] = 0
    seconds = TimeModel(MENU, table, ["a", "a", "b", "b", "b"]).predict().seconds
    assert seconds[4, 1:] == pytest.approx([8.1, 16.2, 12.15], rel=0.05)


def test_all_unknown_is_one_second_until_the_first_round_tells_more() -> None:
    table = np.full((3, len(MENU)), np.nan)
    table[:, 0] = 0
    model = TimeModel(MENU, table)
    assert model.predict().seconds.tolist() == [[0, 1, 1, 1]] * 3
    model.observe([Outcome(i, MENU[2], s, True) for i, s in enumerate((40.0, 42.0))])
    assert model.predict().seconds[:, 1:] == pytest.approx(np.full((3, 3), 41.0), rel=0.1)


def test_first_observations_of_unknown_times_are_believed_at_once() -> None:
    fleet = Fleet(7)
    table = np.full_like(fleet.table, np.nan)
    table[:, 0] = 0
    model = TimeModel(MENU, table, CLASSES)
    for column in (1, 2, 3):
        model.observe(fleet.round(np.full(NUM_CLIENTS, column)))
    assert np.median(off(model, fleet.truth)) < 0.1


def test_strategies_are_not_blamed_for_the_clients_that_do_them() -> None:
    """The slow do the fast strategy and the fast the slow one; two clients did both."""
    truth = np.outer(1.5 ** np.arange(10), [0, 1.0, 1.6, 1.3])
    model = TimeModel(MENU, np.where(truth > 0, np.nan, 0.0))
    for number in range(6):
        columns = np.where(np.arange(10) < 5, 2, 1)
        columns[[2, 7]] = 1 + number % 2
        model.observe(
            [Outcome(i, MENU[s], float(truth[i, s]), True) for i, s in enumerate(columns)]
        )
    assert model.predict().seconds[:, 1:3] == pytest.approx(truth[:, 1:3], rel=0.05)


def test_a_predicted_time_of_nothing_stays_nothing() -> None:
    model = TimeModel(MENU, np.zeros((2, len(MENU))))
    model.observe([Outcome(0, MENU[1], 5.0, True), Outcome(1, MENU[0], 0.0, True)])
    assert not model.predict().seconds.any()


# Late clients.


def test_a_late_client_raises_its_estimate_and_an_early_failure_says_nothing() -> None:
    def after(seconds, succeeded) -> float:
        model = TimeModel(MENU, [[0, 10.0, 20.0, 10.0]] * 3)
        for _ in range(4):
            model.observe([Outcome(0, MENU[2], seconds, succeeded)])
        return float(model.predict().seconds[0, 2])

    for too_little in (None, 1.0, 19.0, 20.0):
        assert after(too_little, succeeded=False) == 20.0
    assert after(None, succeeded=True) == 20.0
    assert after(60.0, succeeded=False) > 60.0
    assert after(10.0, succeeded=True) < 12.0


def test_a_client_that_always_misses_the_deadline_is_soon_expected_to() -> None:
    deadline = 30.0
    model = TimeModel(MENU, [[0, 10.0, 20.0, 10.0]] * 6)
    for _ in range(3):
        model.observe(
            [Outcome(i, MENU[2], 20.0, True) for i in range(5)]
            + [Outcome(5, MENU[2], deadline, False)]
        )
    assert model.predict().seconds[5, 2] > deadline
    assert model.predict().seconds[:5, 2] == pytest.approx(np.full(5, 20.0), rel=0.1)


# Spread, errors, quantiles.


def test_the_spread_tells_steady_clients_from_erratic_ones() -> None:
    rng = np.random.default_rng(0)
    table, noise = np.tile([0, 1.0, 2.0, 1.5], (20, 1)), np.repeat([0.03, 0.3], 10)
    model = TimeModel(MENU, table)
    for _ in range(30):
        seconds = 2.0 * np.exp(rng.normal(0, noise))
        model.observe([Outcome(i, MENU[2], float(s), True) for i, s in enumerate(seconds)])
    spread = model.predict().log_spread[:, 2]
    assert spread[:10].mean() < 0.14
    assert 0.2 < spread[10:].mean() < 0.45


def test_what_was_not_tried_lately_is_less_certain() -> None:
    model = TimeModel(MENU, [[0, 1.0, 2.0, 1.5]] * 2)
    for k in range(10):
        model.observe([Outcome(0, MENU[1 if k < 3 else 2], 1.0 if k < 3 else 2.0, True)])
    error = model.predict().log_error
    assert error[0, 2] < error[0, 1] < error[0, 3] == error[1, 2]
    assert error[0, 0] == 0
    assert model.predict().seconds.tolist() == [[0, 1.0, 2.0, 1.5]] * 2


@pytest.mark.parametrize("together", [0.0, 0.9])
def test_a_round_planned_with_quantiles_holds_as_often_as_promised(together) -> None:
    rng = np.random.default_rng(1)
    seconds, spread = rng.uniform(1, 9, (30, 1)), rng.uniform(0.01, 0.5, (30, 1))
    limits = quantile_seconds(seconds, spread, 0.9, num_clients=30)
    own, common = rng.normal(size=(20_000, 30)), rng.normal(size=(20_000, 1))
    z = np.sqrt(1 - together) * own + np.sqrt(together) * common
    holds = (seconds.T * np.exp(spread.T * z) <= limits.T).all(axis=1).mean()
    assert holds >= 0.895
    if not together:  # the union bound is nearly exact for independent clients
        assert holds < 0.915


def test_quantiles_are_exact_without_spread_and_rise_with_what_is_asked() -> None:
    seconds = np.array([[0.0, 1.1, 3.3]])
    assert quantile_seconds(seconds, np.zeros((1, 3)), 0.99, 50).tolist() == seconds.tolist()
    spread = np.full((1, 3), 0.2)
    low, high = (quantile_seconds(seconds, spread, p, 50) for p in (0.5, 0.99))
    assert (low[0, 1:] < high[0, 1:]).all()
    assert quantile_seconds(seconds, spread, 0.5, 1)[0].tolist() == pytest.approx(seconds[0])


@pytest.mark.parametrize(("holds_with", "num_clients"), [(0.0, 1), (1.0, 1), (0.9, 0)])
def test_impossible_promises_are_refused(holds_with, num_clients) -> None:
    with pytest.raises(ValueError, match="`0 < holds_with < 1` and `num_clients >= 1`"):
        quantile_seconds([[1.0]], [[0.1]], holds_with, num_clients)
    with pytest.raises(ValueError, match="`log_spread` must have shape"):
        quantile_seconds([[1.0]], [0.1], 0.9, 1)


# Order, state, the centre itself.


def test_the_order_of_a_rounds_outcomes_does_not_matter() -> None:
    fleet = Fleet(8)
    rounds = [fleet.round(fleet.any_columns(0), noise=0.2, stalls=0.1) for _ in range(6)]
    rounds[2] += [Outcome(0, MENU[1], 9.0, True), Outcome(0, MENU[1], 7.0, False)]  # answers twice
    models = [TimeModel(MENU, fleet.table, CLASSES) for _ in range(2)]
    for outcomes in rounds:
        models[0].observe(outcomes)
        models[1].observe(fleet.rng.permutation(np.array(outcomes, dtype=object)).tolist())
    assert models[0].predict().seconds.tobytes() == models[1].predict().seconds.tobytes()
    assert models[0].state_dict() == models[1].state_dict()


def test_a_state_survives_json_bit_for_bit_and_training_goes_on_alike() -> None:
    fleet = Fleet(9)
    mine, other = (TimeModel(MENU, fleet.table, CLASSES) for _ in range(2))
    for k in range(9):
        if k == 5:
            other.load_state_dict(json.loads(json.dumps(mine.state_dict())))
        outcomes = fleet.round(fleet.any_columns(), noise=0.2)
        mine.observe(outcomes)
        if k >= 5:
            other.observe(outcomes)
    for name in ("seconds", "log_spread", "log_error"):
        assert getattr(mine.predict(), name).tobytes() == getattr(other.predict(), name).tobytes()


def test_the_state_does_not_grow_with_the_rounds() -> None:
    fleet = Fleet(10)
    model = TimeModel(MENU, fleet.table)
    sizes = []
    for _ in range(40):
        model.observe(fleet.round(fleet.any_columns(), noise=0.1))
        sizes.append(len(model.state_dict()["ratio"]))
    assert sizes[-1] <= 6 * 3 * NUM_CLIENTS
    assert len(set(sizes[-5:])) == 1


def test_some_clients_are_predicted_as_in_the_whole_fleet_whoever_was_seen() -> None:
    fleet = Fleet(11)
    model = TimeModel(MENU, fleet.table, CLASSES)
    for _ in range(4):
        seen = [o for o in fleet.round(fleet.any_columns(), noise=0.2) if o.client % 5]
        model.observe(seen)
    rows = np.array([7, 0, 5, 11])  # 0 and 5 were never seen
    some, whole = model.predict(rows), model.predict()
    for name in ("seconds", "log_spread", "log_error"):
        assert getattr(some, name).tobytes() == getattr(whole, name)[rows].tobytes()
    assert (whole.seconds[0, 1:] != fleet.table[0, 1:]).all()  # what its class has taught


def test_a_state_does_not_grow_with_clients_that_nobody_saw() -> None:
    states = []
    for num_clients in (3, 3_000):
        model = TimeModel(MENU, [[0, 1.0, 2.0, 1.0]] * num_clients)
        model.observe([Outcome(2, MENU[3], 2.0, True)])
        states.append(json.dumps(model.state_dict()))
    assert len(states[1]) - len(states[0]) == len("3000") - len("3")


def test_foreign_and_damaged_states_are_refused() -> None:
    model = TimeModel(MENU, [[0, 1.0, 2.0, 1.0]] * 3)
    model.observe([Outcome(2, MENU[3], 2.0, True)])
    state = model.state_dict()
    with pytest.raises(ValueError, match="must be of 1 clients and 3 strategies, but is of 3"):
        TimeModel(MENU, [[0, 1.0, 2.0, 1.0]]).load_state_dict(state)
    with pytest.raises(ValueError, match="not \\['ratio'\\]"):
        model.load_state_dict({k: v for k, v in state.items() if k != "ratio"})
    with pytest.raises(ValueError, match="as many values as `client`"):
        model.load_state_dict({**state, "error": []})
    with pytest.raises(ValueError, match="3 clients and 3 strategies"):
        model.load_state_dict({**state, "column": [3]})


@pytest.mark.parametrize(
    ("seconds", "classes", "words"),
    [
        ([[0, 1.0]], None, r"shape \(clients, 4\), .* got \(1, 2\)"),
        ([[0, -1.0, 1.0, 1.0]], None, r"finite and >= 0, or NaN.*seconds\[0, 1\] = -1.0"),
        ([[0, np.inf, 1.0, 1.0]], None, "finite and >= 0, or NaN"),
        ([[0, 1.0, 1.0, 1.0]], ["a", "b"], "`device_classes` must hold 1 names"),
    ],
)
def test_impossible_tables_are_refused(seconds, classes, words) -> None:
    with pytest.raises(ValueError, match=words):
        TimeModel(MENU, seconds, classes)


def test_the_centre_is_the_minimum_of_its_loss() -> None:
    rng = np.random.default_rng(2)
    group, value = np.repeat(np.arange(30), 7), rng.standard_t(2, 210)
    weight, prior = rng.uniform(0.1, 1, 210), rng.uniform(0.0, 2, 30)

    def rho(r):
        far = np.abs(r) > CLIP
        return np.where(far, CLIP * (np.abs(r) - CLIP / 2), r**2 / 2)

    found = huber_centre(group, value, weight, prior)
    for g in range(30):
        v, w, p = value[group == g], weight[group == g], prior[g]

        def loss(m, v=v, w=w, p=p) -> float:
            return float(w @ rho(v - m) + p * rho(np.array(m)))

        best = minimize_scalar(loss, bounds=(v.min() - 1, v.max() + 1), method="bounded")
        assert loss(found[g]) <= best.fun + 1e-7
