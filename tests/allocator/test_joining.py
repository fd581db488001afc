"""Clients that come to a fleet at any time, what they say that they cannot do, and the state."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    Count,
    FittedLoss,
    Goal,
    HardwareTables,
    HybridAllocator,
    Milp,
    Outcome,
    parse_menu,
)

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
NAN = float("nan")
SETTINGS = {
    "goal": Goal(tradeoff=20.0, uplink_bytes=7e3),
    "carry": 0.6,
    "fitted": FittedLoss(((0.0, 0.4), (0.5, 0.0)), 0.3, 0.0, 0.01, "by hand"),
    "switching_seconds": 0.2,
    "explore": 0.0,
}


class Fleet:
    """Random clients: their tables, data, classes and groups, and how long they really take."""

    def __init__(self, seed: int, num_clients: int = 7, times: str = "known") -> None:
        rng = np.random.default_rng(seed)
        shape = (num_clients, len(MENU))
        table = np.outer(np.exp(rng.normal(1, 0.6, num_clients)), [0.0, 1.0, 1.5])
        told = np.where(rng.random(shape) < {"known": 1, "some": 0.4, "none": 0}[times], table, NAN)
        told[:, 0] = 0.0
        self.truth = table * np.exp(rng.normal(0, 0.3, shape))
        allowed = np.ones(shape, dtype=bool)
        allowed[:, 2] = rng.random(num_clients) < 0.9
        bytes_ = np.tile([0.0, 1e3, 1e3], (num_clients, 1))
        self.hardware = HardwareTables(told, bytes_, np.zeros(shape), allowed, MENU)
        counts = rng.integers(0, 30, (num_clients, 3)).astype(float)
        self.examples = counts.sum(axis=1)
        counts[rng.random(num_clients) < 0.3] = NAN  # some withhold their labels
        self.examples[rng.random(num_clients) < 0.2] = NAN
        self.counts = counts
        self.classes = list(rng.choice(["phone", "watch"], num_clients))
        self.groups = [None if rng.random() < 0.6 else "home" for _ in range(num_clients)]

    def some(self, first: int, last: int) -> dict:
        """Arguments for the clients of a range."""
        part = slice(first, last)
        tables = {
            name: getattr(self.hardware, name)[part]
            for name in ("seconds", "uplink_bytes", "memory_bytes", "allowed")
        }
        return {
            "hardware": HardwareTables(**tables, strategies=MENU),
            "num_examples": self.examples[part],
            "label_counts": None if np.isnan(self.counts[part]).all() else self.counts[part],
            "device_classes": self.classes[part],
            "groups": self.groups[part],
        }

    def took(self, clients, columns) -> list[Outcome]:
        """Rounds without a failure."""
        return [
            Outcome(int(i), MENU[s], float(self.truth[i, s]), True)
            for i, s in zip(clients, columns, strict=True)
        ]


def whole(fleet: Fleet, **changes) -> HybridAllocator:
    everybody = fleet.some(0, len(fleet.examples))
    return HybridAllocator(
        MENU, deployed="qat-w2a2", solver=Milp(), **everybody, **{**SETTINGS, **changes}
    )


def in_parts(fleet: Fleet, rng: np.random.Generator, **changes) -> tuple[HybridAllocator, list]:
    """An allocator that the fleet joined by and by, and the outcomes that it was told."""
    allocator = HybridAllocator.open(MENU, "qat-w2a2", Milp(), **{**SETTINGS, **changes})
    told = []
    num_clients = len(fleet.examples)
    cuts = np.sort(rng.choice(np.arange(1, num_clients), 2, replace=False)).tolist()
    for first, last in zip([0, *cuts], [*cuts, num_clients], strict=True):
        assert allocator.join(**fleet.some(first, last)) == range(first, last)
        for _ in range(2):
            cohort = rng.choice(last, rng.integers(1, last + 1), replace=False)
            columns = rng.integers(0, len(MENU), len(cohort))
            told.append(fleet.took(cohort, columns))
            allocator.observe(told[-1])
    return allocator, told


@pytest.mark.parametrize("times", ["known", "none"])
@pytest.mark.parametrize("seed", range(4))
def test_a_fleet_joined_in_parts_plans_exactly_as_one_built_whole_and_told_the_same(
    seed, times
) -> None:
    fleet, rng = Fleet(seed, times=times), np.random.default_rng(seed)
    changes = {"explore": 0.3} if seed % 2 else {}
    grown, told = in_parts(fleet, rng, **changes)
    built = whole(fleet, **changes)
    for outcomes in told:
        built.observe(outcomes)
    assert grown.state_dict() == built.state_dict()
    for number in range(1, 4):
        cohort = rng.permutation(len(fleet.examples))[: rng.integers(1, 8)]
        mine, theirs = grown.plan(number, cohort), built.plan(number, cohort)
        assert mine.choice.tobytes() == theirs.choice.tobytes()
        for name in ("objective", "round_seconds", "loss"):
            assert getattr(mine, name) == getattr(theirs, name)
        for allocator in (grown, built):
            allocator.observe(fleet.took(cohort, mine.choice))
    assert grown.problem().coverage.carried.any()


@pytest.mark.parametrize("seed", range(4))
def test_times_that_some_tell_late_serve_those_who_do_not(seed) -> None:
    """What fills unknown times then differs a little: levels were judged with what was known."""
    fleet = Fleet(seed, times="some")
    grown, told = in_parts(fleet, np.random.default_rng(seed))
    built = whole(fleet)
    for outcomes in told:
        built.observe(outcomes)
    found = grown.time_model.predict().seconds[:, 1:]
    wanted = built.time_model.predict().seconds[:, 1:]
    assert found == pytest.approx(wanted, rel=0.05)
    unseen = whole(fleet).time_model.predict().seconds
    apart = HybridAllocator.open(MENU, "qat-w2a2", Milp())
    apart.join(**fleet.some(0, 3))
    apart.join(**fleet.some(3, 7))
    assert apart.time_model.predict().seconds.tolist() == unseen.tolist()


def test_an_open_fleet_finds_out_what_its_slowest_should_do() -> None:
    """Nobody knows a time at first; then the slowest does what is fast, and QAT covers the rest."""
    truth = np.outer(1.3 ** np.arange(10), [1.0, 1.5])
    allocator = HybridAllocator.open(MENU[1:], "qat-w2a2")
    allocator.join(HardwareTables.unknown(MENU[1:], 6), num_examples=[50] * 6)
    for number in range(1, 21):
        if number == 6:
            allocator.join(HardwareTables.unknown(MENU[1:], 4), num_examples=[50] * 4)
        clients = range(allocator.num_clients)
        choice = allocator.plan(number).choice
        allocator.observe(
            [
                Outcome(i, allocator.menu[s], float(truth[i, s]), True)
                for i, s in zip(clients, choice, strict=True)
            ]
        )
    plan = allocator.plan(21)
    assert truth[range(10), plan.choice].max() == truth[9, 0]  # no round can be faster
    assert plan.loss < 0.01
    assert allocator.time_model.predict().seconds == pytest.approx(truth, rel=0.1)


def test_the_state_of_a_grown_fleet_is_taken_up_by_one_with_the_same_clients() -> None:
    fleet, rng = Fleet(3, times="some"), np.random.default_rng(3)
    grown, _ = in_parts(fleet, rng)
    grown.forbid(4, "ptq-w2a2")
    saved = json.loads(json.dumps(grown.state_dict(), allow_nan=False))
    built = whole(fleet)
    built.forbid(0, "ptq-w2a2")  # of another life
    built.load_state_dict(saved)
    for number in range(1, 5):
        mine, theirs = grown.plan(number), built.plan(number)
        assert mine.choice.tobytes() == theirs.choice.tobytes()
        assert mine.objective == theirs.objective
        for allocator in (grown, built):
            allocator.observe(fleet.took(range(7), mine.choice))
    assert grown.state_dict() == built.state_dict()
    fewer = HybridAllocator.open(MENU, "qat-w2a2")
    with pytest.raises(ValueError, match=r"a state must be of 0 clients .* but is of 7"):
        fewer.load_state_dict(saved)


def test_a_state_from_before_clients_could_join_is_taken_up() -> None:
    fleet = Fleet(1)
    allocator = whole(fleet)
    allocator.forbid(1, "ptq-w2a2")
    old = {
        "carried": [0.1, 0.2, 0.3],
        "menu": [str(s) for s in MENU],
        "num_clients": 7,
        "last": [[2], [1]],
        "times": allocator.time_model.state_dict(),
    }
    allocator.load_state_dict(old)
    problem = allocator.problem()
    assert problem.coverage.carried.tolist() == [0.1, 0.2, 0.3]
    assert problem.switching_seconds.nonzero()[0].tolist() == [2]
    assert problem.allowed[1, 1]
    allocator.observe([])
    assert allocator.problem().coverage.carried == pytest.approx([0.06, 0.12, 0.18])
    for name, wrong in [("taught", [[9], [1.0]]), ("last", [[-1], [1]]), ("forbidden", [[7, 0]])]:
        before = allocator.state_dict()
        with pytest.raises(ValueError, match=f"`{name}` of a state must be"):
            allocator.load_state_dict({**before, name: wrong})
        assert allocator.state_dict() == before


def test_an_open_fleet_waits_for_its_first_client() -> None:
    allocator = HybridAllocator.open(MENU, "qat-w2a2")
    assert allocator.num_clients == 0
    with pytest.raises(ValueError, match=r"nobody has joined. Call `join` first"):
        allocator.plan(1)
    allocator.observe([])
    allocator.load_state_dict(allocator.state_dict())
    assert allocator.join(HardwareTables.unknown(MENU), num_examples=[0]) == range(1)
    assert str(allocator.plan(1).strategy(0)) == "qat-w2a2"
    nobody = HardwareTables.unknown(MENU, 0)
    assert allocator.join(nobody, num_examples=[]) == range(1, 1)
    with pytest.raises(ValueError, match=r"at least one client.*`HybridAllocator.open`"):
        HybridAllocator(MENU, nobody, "qat-w2a2", Milp(), num_examples=[])


def test_an_impossible_goal_is_refused_before_anybody_joins() -> None:
    with pytest.raises(ValueError, match=r"`counts` must name strategies of the menu"):
        HybridAllocator.open(MENU, "qat-w2a2", goal=Goal(counts=[Count(["fp32"], at_least=1)]))
    with pytest.raises(ValueError, match=r"nothing would teach it"):
        HybridAllocator.open(MENU, "qat-w4a4")
    allocator = HybridAllocator.open(MENU, "qat-w2a2", goal=Goal(tradeoff=1.0, energy_joules=5.0))
    with pytest.raises(ValueError, match=r"that of client 0 .*is not known"):
        allocator.join(HardwareTables.unknown(MENU), num_examples=[5])
    assert allocator.num_clients == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_examples": [1.0]}, r"`num_examples` must have shape \(2,\)"),
        ({"num_examples": [1.0, -1.0]}, r"num_examples\[1\] = -1.0"),
        ({"label_counts": [[1, 2]] * 2}, "as many classes as those that are there, but 2 is not 3"),
        ({"label_counts": [[1, 2, NAN], [1, 2, 3]]}, "that of client 0 is in part"),
        ({"label_counts": [[1, 2, np.inf], [1, 2, 3]]}, "must be finite"),
        ({"device_classes": ["a"]}, "`device_classes` must hold 2 names"),
        ({"groups": ["a"]}, "`groups` must hold 2 names"),
        ({"hardware": HardwareTables.unknown(MENU[1:], 2)}, "must be of the strategies .*'skip'"),
        ({"groups": ["g", "g"], "hardware": "apart"}, "must share an allowed strategy"),
    ],
)
def test_clients_that_cannot_join_leave_the_fleet_as_it_was(changes, words) -> None:
    fleet = Fleet(0)
    allocator = whole(fleet)
    allocator.observe(fleet.took(range(7), [2] * 7))
    before, problem = allocator.state_dict(), allocator.problem()
    new = {"hardware": HardwareTables.unknown(MENU, 2), "num_examples": [5, 6]}
    if changes.get("hardware") == "apart":
        unknown = HardwareTables.unknown(MENU, 2)
        changes = {**changes, "hardware": replace(unknown, allowed=np.eye(3, dtype=bool)[:2])}
    with pytest.raises(ValueError, match=words):
        allocator.join(**{**new, **changes})
    assert allocator.state_dict() == before
    assert allocator.problem().seconds.tolist() == problem.seconds.tolist()


def test_a_client_that_joins_changes_the_next_plan_of_the_same_cohort() -> None:
    allocator = HybridAllocator.open(["ptq-w2a2", "qat-w2a2"], "qat-w2a2", **SETTINGS)
    menu = allocator.menu
    first = replace(HardwareTables.unknown(menu), seconds=np.array([[1.0, 3.0]]))
    allocator.join(first, num_examples=[50], label_counts=[[50, 0]])
    alone = allocator.problem([0]).coverage
    assert allocator.plan(1, [0]).loss == 0.0  # qat covers all that is known
    allocator.join(HardwareTables.unknown(menu), num_examples=[50], label_counts=[[0, 50]])
    assert alone.class_weights.tolist() == [1.0, 0.0]
    assert allocator.problem([0]).coverage.class_weights.tolist() == [0.5, 0.5]
    assert allocator.plan(2, [0]).loss == pytest.approx(0.5 * 0.4)  # and half of what is now
