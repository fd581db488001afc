"""`LossModel`: what gaps say of the curve, and what they do not."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from simulated_worlds import CURVE, FITTED

from fedhq.allocator import (
    Coverage,
    FittedLoss,
    Goal,
    HardwareTables,
    HybridAllocator,
    LossModel,
    Outcome,
    ServerAccuracy,
    parse_menu,
)
from fedhq.allocator.adjust.hinges import Hinges
from fedhq.allocator.adjust.loss_model import BASE, LOSS_PER_GAP

MENU = parse_menu(["ptq-w2a2", "qat-w2a2"])
EVEN = np.full(4, 0.25)


def shown(covered: float, factor: float, noise: float = 0.0, in_float: float = 0.9):
    """The accuracy that a coverage gives where quantization hurts some times as much."""
    lost = BASE + factor * np.interp(covered, *CURVE.T)
    return ServerAccuracy(
        float(np.clip(in_float - lost / LOSS_PER_GAP + noise, 0, 1)), in_float, 200
    )


def taught(factor: float, coverages, seed=0, model=None, in_float=0.9) -> LossModel:
    """A model that saw an evaluation at each coverage."""
    model, rng = model or LossModel(CURVE), np.random.default_rng(seed)
    for covered in coverages:
        accuracy = shown(covered, factor, rng.normal(0, 0.04), in_float)
        model.observe(np.full(4, covered), EVEN, accuracy)
    return model


def phi(model: LossModel, covered: float) -> float:
    return float(np.interp(covered, *model.curve().T))


def test_any_convex_curve_is_its_hinges() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        at = np.append(0.0, np.sort(rng.uniform(0.01, 1.4, 4)))
        slopes = np.sort(-rng.exponential(1, 4))
        loss = np.append(0.0, np.cumsum(slopes * np.diff(at)))
        curve = np.column_stack([at, loss - loss[-1] + 0.1])
        hinges, where = Hinges.of(curve), np.linspace(0, 1.5, 40)
        sums = hinges.rest + hinges.weights @ hinges.below(where)
        assert sums == pytest.approx(np.interp(where, *curve.T))
        again = hinges.with_weights(hinges.weights * 2)
        twice = 2 * np.interp(where, *curve.T) - hinges.rest
        assert np.interp(where, *again.T) == pytest.approx(twice)


@pytest.mark.parametrize("factor", [0.2, 0.6, 1.6])
def test_one_number_is_learned_from_a_few_rounds_that_nobody_taught(factor) -> None:
    found = [phi(taught(factor, [0.0] * 8, seed), 0.0) / CURVE[0, 1] for seed in range(20)]
    between = sorted((factor, 1.0))
    assert between[0] - 0.1 < np.mean(found) < between[1]
    assert abs(np.mean(found) - factor) < abs(1 - factor) / 1.4
    elsewhere = phi(taught(factor, [0.0] * 8), 0.1)  # where nothing was seen
    assert (elsewhere < np.interp(0.1, *CURVE.T)) == (factor < 1)


def test_gaps_as_fitted_leave_the_curve_to_the_byte() -> None:
    kept = [taught(1.0, [0.0, 0.1, 0.3, 0.5] * 4, seed).curve() for seed in range(20)]
    same = [curve.tobytes() == CURVE.tobytes() for curve in kept]
    assert np.mean(same) >= 0.8
    for curve in kept:
        assert np.interp([0, 0.1], *curve.T) == pytest.approx(
            np.interp([0, 0.1], *CURVE.T), rel=0.2
        )


def test_what_unevenness_explains_of_a_gap_is_not_learned_twice() -> None:
    """Gaps as fitted with a price leave the curve to the byte; without it they would raise it."""
    rng, price, lags = np.random.default_rng(3), 0.8, []
    priced, unpriced = LossModel(CURVE, price), LossModel(CURVE)
    term = Coverage(np.eye(4), (0, 1), CURVE, unevenness_price=price)
    for _ in range(16):
        covered = rng.permutation([0.0, 0.0, 0.3, 0.6])
        lags.append(term.unevenness(covered))
        gap = (BASE + term.loss(covered)) / LOSS_PER_GAP + rng.normal(0, 0.02)
        for model in (priced, unpriced):
            model.observe(covered, EVEN, ServerAccuracy(0.9 - gap, 0.9, 200))
    assert min(lags) > 0.1
    assert priced.curve().tobytes() == CURVE.tobytes()
    assert phi(unpriced, 0.0) > 1.1 * CURVE[0, 1]
    with pytest.raises(ValueError, match="`unevenness_price` must be"):
        LossModel(CURVE, -1.0)


def test_the_price_that_plans_count_is_the_one_that_is_taken_off() -> None:
    fitted = FittedLoss(tuple(map(tuple, CURVE)), 0.1, 0.0, 0.01, "by hand", unevenness_price=0.8)
    allocator = make(fitted=fitted)
    counted = [Outcome(i, MENU[int(i < 2)], 1.0, True) for i in range(4)]  # two classes of four
    gap = (BASE + 0.5 * CURVE[0, 1] + 0.8 * 0.25) / LOSS_PER_GAP
    for _ in range(12):
        allocator.observe(counted, ServerAccuracy(0.9 - gap, 0.9, 200))
    assert allocator.problem().coverage.loss_curve.tobytes() == CURVE.tobytes()
    dearer = make(fitted=replace(fitted, unevenness_price=0.9))
    dearer.load_state_dict(allocator.state_dict())
    assert len(dearer.loss_model) == 0


def test_one_wrong_evaluation_is_outvoted() -> None:
    model = taught(1.0, [0.05] * 12)
    before = phi(model, 0.0)
    model.observe(np.full(4, 0.05), EVEN, ServerAccuracy(0.0, 0.9, 200))
    assert phi(model, 0.0) == pytest.approx(before, rel=0.15)


def test_what_changes_is_followed() -> None:
    model = taught(0.2, [0.05] * 20)
    low = phi(model, 0.0)
    taught(1.5, [0.05] * 25, model=model)
    assert low < 0.7 * CURVE[0, 1]
    assert phi(model, 0.0) > CURVE[0, 1]


def test_a_model_that_only_guesses_has_nothing_to_lose() -> None:
    model = taught(0.0, [0.0] * 20, in_float=0.25)
    assert model.curve().tobytes() == CURVE.tobytes()
    assert model.wants_probe(11)
    assert not model.wants_probe(10)  # twice as many of any
    taught(0.0, [0.0] * 10, model=model)
    assert not model.wants_probe(10)


def test_any_learned_curve_is_one_that_the_program_takes() -> None:
    rng = np.random.default_rng(1)
    for seed in range(30):
        model = taught(rng.uniform(0, 3), rng.uniform(0, 1, rng.integers(1, 70)), seed)
        curve = model.curve()
        Coverage(np.ones((2, 4)), (0, 1), curve)  # convex and decreasing, or this raises
        assert (curve[:, 1] >= 0).all()
        assert len(model) <= 60


def test_an_unexplained_gap_at_full_belief_buys_more_teaching() -> None:
    model = LossModel(CURVE)
    for _ in range(15):
        model.observe(np.full(4, 0.6), EVEN, ServerAccuracy(0.75, 0.9, 200))
    assert phi(model, 0.6) > 0.005  # where the fitted curve knows of no loss
    assert phi(model, 1.0) == 0.0


@pytest.mark.parametrize(
    "values", [(1.2, 0.9, 10), (0.5, -0.1, 10), (np.nan, 0.5, 10), (0.5, 0.5, 0)]
)
def test_impossible_accuracies_are_refused(values) -> None:
    with pytest.raises(ValueError, match=r"must hold"):
        ServerAccuracy(*values)


# Within `HybridAllocator`.


def make(num_clients=4, **settings) -> HybridAllocator:
    told = {"fitted": FITTED} | settings
    allocator = HybridAllocator.open(MENU, "qat-w2a2", explore=0.0, **told)
    seconds = np.outer(np.linspace(1, 1.2, num_clients), [1.0, 2.0])
    tables = HardwareTables.unknown(MENU, num_clients)
    counts = 10 * np.eye(4)[np.arange(num_clients) % 4]
    allocator.join(
        replace(tables, seconds=seconds),
        num_examples=np.full(num_clients, 10),
        label_counts=counts,
    )
    return allocator


def told(allocator: HybridAllocator, number: int, gap: float | None):
    plan = allocator.plan(number)
    took = allocator.hardware.seconds[np.arange(len(plan.choice)), plan.choice]
    accuracy = None if gap is None else ServerAccuracy(0.9 - gap, 0.9, 200)
    allocator.observe(
        [Outcome(i, plan.strategy(i), float(took[i]), True) for i in range(len(took))], accuracy
    )
    return plan.choice.tolist()


def test_probing_rounds_are_the_fastest_and_end_with_what_they_show() -> None:
    allocator = make(probe=3)
    plans = [told(allocator, number, 0.5) for number in range(1, 5)]
    assert plans == [[0, 0, 0, 0]] * 3 + [[1, 1, 1, 1]]
    assert allocator.problem().coverage.loss_curve[0, 1] > CURVE[0, 1]
    unseen = make(probe=3)
    assert told(unseen, 1, None) == [0, 0, 0, 0]
    assert told(unseen, 2, None) == make().plan(1).choice.tolist() == [1, 1, 1, 1]
    only_loss = make(probe=3, goal=Goal(deadline_seconds=9.0))
    assert only_loss.plan(1).choice.tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="`0 <= probe <= 30` must hold"):
        make(probe=31)


def test_a_restored_allocator_goes_on_as_if_nothing_had_happened() -> None:
    mine, other = make(probe=2), make(probe=2)
    for number in range(1, 6):
        told(mine, number, 0.05 * number)
    other.load_state_dict(json.loads(json.dumps(mine.state_dict())))
    for number in range(6, 9):
        assert told(mine, number, 0.3) == told(other, number, 0.3)
    assert mine.state_dict() == other.state_dict()
    curves = [a.problem().coverage.loss_curve.tobytes() for a in (mine, other)]
    assert curves[0] == curves[1] != CURVE.tobytes()


def test_a_state_of_an_older_version_or_another_curve_brings_no_gaps() -> None:
    saved = make()
    for number in range(1, 9):
        told(saved, number, 0.5)
    state = saved.state_dict()
    old = make()
    old.load_state_dict({k: v for k, v in state.items() if k not in ("loss", "exposure")})
    assert old.problem().coverage.loss_curve.tobytes() == CURVE.tobytes()
    changed = FittedLoss(((0.0, 0.3), (0.7, 0.0)), 0.1, 0.0, 0.01, "by hand")
    refitted = make(fitted=changed)
    refitted.load_state_dict(state)
    assert refitted.problem().coverage.loss_curve.tolist() == [[0.0, 0.3], [0.7, 0.0]]
    unlearned = make(learn_loss=False)
    unlearned.load_state_dict(state)
    assert unlearned.loss_model is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (None, r"must hold \['below'.*are missing"),
        ({"gap": [0.1, np.nan]}, "`gap` must be finite"),
        ({"gap": [0.1, "much"]}, "could not convert"),
        ({"gap": [0.1]}, r"`below` must have shape \(1, "),
        ({"below": [[0.1, 0.1]] * 2}, r"`below` must have shape \(2, "),
        ({"variance": [0.0, 0.1]}, "`variance > 0` must hold"),
        ({"learned": [0.5, -1.0]}, "`learned` must be finite and >= 0"),
        ({"valid": [1.0, np.inf]}, "`valid` must be finite"),
    ],
)
def test_no_state_of_a_loss_model_is_taken_that_it_cannot_have_saved(changed, words) -> None:
    model = taught(1.0, [0.1, 0.4])
    state = {} if changed is None else {**model.state_dict(), **changed}
    with pytest.raises(ValueError, match=words):
        model.loaded(state)
    allocator = make()
    saved = {**allocator.state_dict(), "loss": state}
    with pytest.raises(ValueError, match=words):
        allocator.load_state_dict(saved)


def test_of_a_state_that_is_too_long_the_newest_count() -> None:
    model = taught(0.3, [0.1] * 60)
    state = json.loads(json.dumps(model.state_dict()))
    rows = ("below", "gap", "variance", "learned", "valid")
    loaded = model.loaded({k: [v[0]] * 40 + v if k in rows else v for k, v in state.items()})
    assert loaded.state_dict() == model.state_dict()
    assert model.loaded(LossModel(CURVE).state_dict()).wants_probe(1)


def test_counts_told_anew_replace_the_old_ones() -> None:
    allocator = make()
    before = allocator.label_counts.copy()
    allocator.tell(1, num_examples=8, label_counts=[0, 0, 3, 5])
    assert allocator.label_counts[1].tolist() == [0, 0, 3, 5]
    assert allocator.num_examples.tolist() == [10, 8, 10, 10]
    assert (allocator.label_counts[[0, 2, 3]] == before[[0, 2, 3]]).all()
    allocator.tell(1)  # withheld from now on
    assert allocator.label_counts[1].tolist() == pytest.approx([10 / 3, 0, 10 / 3, 10 / 3])
    for wrong, words in (
        ({"client": 4}, r"`client` must be in 0 \.\.\. 3"),
        ({"client": 0, "label_counts": [1, 2]}, "`label_counts` must hold 4 classes"),
        ({"client": 0, "num_examples": -1}, "`num_examples` must be"),
    ):
        with pytest.raises(ValueError, match=words):
            allocator.tell(**wrong)


def test_one_client_of_a_thousand_that_tells_anew_changes_next_to_nothing() -> None:
    allocator = make(1000, learn=False, probe=8)
    outcomes = [Outcome(i, MENU[0], 1.0, True) for i in range(1000)]
    allocator.tell(5, label_counts=[0, 10, 0, 0])  # as it was
    for _ in range(7):
        allocator.observe(outcomes, ServerAccuracy(0.87, 0.9, 200))
    model, before = allocator.loss_model, phi(allocator.loss_model, 0.0)
    assert before < 0.8 * CURVE[0, 1]
    allocator.tell(5, label_counts=[0, 10, 0, 0])
    assert phi(model, 0.0) == before
    allocator.tell(5, label_counts=[10, 0, 0, 0])
    assert model is allocator.loss_model
    assert phi(model, 0.0) == pytest.approx(before, rel=0.02)
    assert model.wants_probe(8)
    allocator.observe(outcomes, ServerAccuracy(0.87, 0.9, 200))
    assert not model.wants_probe(8)


def test_many_small_changes_forget_as_much_as_a_large_one() -> None:
    small, large = make(1000, learn=False), make(10, learn=False)
    for allocator in (small, large):
        clients = allocator.num_clients
        for _ in range(8):
            outcomes = [Outcome(i, MENU[i % 4 < 2], 1.0, True) for i in range(clients)]
            allocator.observe(outcomes, ServerAccuracy(0.2, 0.9, 200))
        assert phi(allocator.loss_model, 0.0) > 1.2 * CURVE[0, 1]
    for client in range(0, 1000, 2):
        small.tell(client, label_counts=[0, 0, 10, 0])
        if client == 20:
            assert phi(small.loss_model, 0.0) > 1.1 * CURVE[0, 1]
    large.tell(0, label_counts=[0, 0, 10, 0])
    assert small.loss_model.curve().tobytes() == CURVE.tobytes()
    assert large.loss_model.curve().tobytes() == CURVE.tobytes()
    assert not small.loss_model.wants_probe(4)


def test_what_was_forgotten_stays_so_in_a_checkpoint() -> None:
    allocator, other = make(), make()
    for number in range(1, 9):
        told(allocator, number, 0.7)
    for client in range(4):
        allocator.tell(client)  # in the end nobody tells: all is of one class
    assert allocator.loss_model.curve().tobytes() == CURVE.tobytes()
    for client in range(4):
        other.tell(client)
    other.load_state_dict(json.loads(json.dumps(allocator.state_dict())))
    assert other.state_dict() == allocator.state_dict()
    assert other.loss_model.curve().tobytes() == CURVE.tobytes()


def test_learning_is_quick_for_a_large_fleet() -> None:
    allocator = make(1000, learn=False)
    plan = allocator.plan(1)
    outcomes = [Outcome(i, plan.strategy(i), 1.0, True) for i in range(1000)]
    start = time.process_time()
    for _ in range(10):
        allocator.observe(outcomes, ServerAccuracy(0.4, 0.9, 200))
        allocator.problem()
    assert (time.process_time() - start) / 10 < 0.05
