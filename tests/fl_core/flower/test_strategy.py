"""`AllocatorStrategy` goes around any strategy, and nothing of anybody is changed."""

import copy
import gc
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flower_fleet import (
    MODEL,
    FakeGrid,
    Node,
    Spy,
    all_around,
    arrays_of,
    fleet,
    play,
    profiled,
    values_of,
)
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.server import strategy as legacy
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedMedian,
    Krum,
    QFedAvg,
    Result,
    Strategy,
)

from fedhq.allocator import HybridAllocator, ServerAccuracy
from fedhq.allocator.errors import CheckpointError
from fedhq.fl_core import read_clients, read_rounds
from fedhq.fl_core.flower.legacy.strategy import LegacyAllocatorStrategy
from fedhq.fl_core.flower.messages.orders import QUERY, RECORD, Decision
from fedhq.fl_core.flower.server import planning as module
from fedhq.fl_core.flower.server.strategy import AllocatorStrategy
from fedhq.fl_core.wire.codec import encoded_bytes
from fedhq.studies.watch import WatchedRun

NO_EVALUATION = {"fraction_evaluate": 0.0, "min_available_nodes": 4}
WRAPPED = [
    FedAvg(**NO_EVALUATION),
    FedAdam(**NO_EVALUATION),
    FedMedian(**NO_EVALUATION),
    Krum(**NO_EVALUATION),
    QFedAvg(client_learning_rate=0.1, **NO_EVALUATION),
    DifferentialPrivacyServerSideFixedClipping(
        FedAvg(**NO_EVALUATION), noise_multiplier=0.0, clipping_norm=1e6, num_sampled_clients=4
    ),
]


@pytest.mark.parametrize("inner", WRAPPED, ids=lambda s: type(s).__name__)
def test_any_strategy_of_flower_combines_what_it_would_of_plain_clients(
    inner: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's update holds one value throughout, so that rounding it to 4 bits loses nothing."""
    monkeypatch.setattr(gc, "collect", int)  # QFedAvg calls it for every reply: half a second each
    values = {
        name: v for name, v in MODEL.items() if name != "steps" or not isinstance(inner, QFedAvg)
    }
    packed, plain = (
        {k: Node(p, step) for k, p, step in zip(range(4), profiles, (1, 2, 4, 7), strict=True)}
        for profiles in (profiled("abcd"), [None] * 4)
    )
    results = [
        play(all_around(strategy), FakeGrid(nodes), 2, arrays_of(values))
        for strategy, nodes in ((copy.deepcopy(inner), packed), (inner, plain))
    ]
    got, expected = (values_of(result.arrays) for result in results)
    assert [*got] == [*values]
    assert {v.dtype for v in got.values()} == {v.dtype for v in values.values()}
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=2e-6, atol=2e-6)
    assert (got["b"] != MODEL["b"]).all()


class Own(Strategy):
    """A user's: other names, no attributes, two records, metrics that it does not average."""

    def configure_train(self, server_round, arrays, config, grid) -> Iterable[Message]:
        config["rate"] = config["rate"] / 2
        record = RecordDict({"weights": arrays, "settings": config})
        return [Message(record, node, "train.mine") for node in grid.get_node_ids()]

    def aggregate_train(self, server_round, replies):
        (*_, last) = replies
        return last.content["weights"], MetricRecord({"count": len(list(replies))})

    def configure_evaluate(self, server_round, arrays, config, grid) -> Iterable[Message]:
        return []

    def aggregate_evaluate(self, server_round, replies) -> None:
        return None

    def summary(self) -> None: ...


def test_a_strategy_of_ones_own_keeps_its_names_and_its_changes_of_the_configuration() -> None:
    grid = FakeGrid(fleet(3, arrays_key="weights"))
    config = ConfigRecord({"rate": 1.0})
    strategy = all_around(Own())
    result = strategy.start(grid, arrays_of(), num_rounds=2, train_config=config)
    np.testing.assert_array_equal(values_of(result.arrays)["b"], MODEL["b"] + 2 * 3)
    seen = grid.nodes[9_000].seen
    assert [m.metadata.message_type for m in seen] == [QUERY, "train.mine", "train.mine"]
    assert [m.content["settings"]["rate"] for m in seen[1:]] == [0.5, 0.25]
    assert dict(config) == {"rate": 1.0}
    assert Decision.from_record(seen[1].content[RECORD]).arrays_key == "weights"


def test_names_of_records_and_metrics_are_those_of_the_inner_strategy() -> None:
    keys = {"arrayrecord_key": "w", "configrecord_key": "c", "weighted_by_key": "n"}
    grid = FakeGrid(fleet(2, arrays_key="w", examples_key="n"))
    strategy = all_around(Spy(**keys))
    result = play(strategy, grid)
    assert [c.status for c in strategy.ledger.clients] == ["ok", "ok"]
    np.testing.assert_allclose(values_of(result.arrays)["b"], 1.5)
    assert {*grid.trained()[0].content} == {"w", "c", RECORD}


def test_unknown_attributes_are_the_inner_strategys() -> None:
    strategy = all_around(FedAvg(fraction_train=0.25))
    assert strategy.fraction_train == 0.25
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        strategy.nothing_of_the_kind


def test_nobodys_configuration_is_changed_by_another_clients() -> None:
    config = ConfigRecord({"lr": 0.1, "layers": [1, 2]})
    before = dict(config)
    grid = FakeGrid(fleet(3))
    all_around(Spy()).start(grid, arrays_of(), 1, 5.0, config)
    first, *others = grid.trained()
    first.content["config"]["layers"].append(99)
    first.content["config"]["lr"] = 7.0
    first.content["extra"] = ConfigRecord()
    assert dict(config) == before
    for other in others:
        assert dict(other.content["config"]) == {**before, "server-round": 1}
        assert "extra" not in other.content


def test_the_same_seed_gives_the_same_cohorts_and_bytes_whatever_the_nodes_and_the_order() -> None:
    def run(ids: list[int], order: int, seed: int = 3) -> tuple[list[list[int]], list[bytes]]:
        grid = FakeGrid(fleet(8, ids), seed=order)
        inner = Spy(fraction_train=0.5, min_available_nodes=8)
        strategy = all_around(inner, seed=seed, downlink_bits=4)
        result = play(strategy, grid, rounds=3, arrays=arrays_of({"w": noise}))
        cohorts = [[c.client for c in strategy.ledger.clients if c.round == r] for r in (1, 2, 3)]
        return cohorts, [v.tobytes() for v in values_of(result.arrays).values()]

    noise = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    random.seed(1)
    state = random.getstate()
    first = run([*range(10, 18)], order=0)
    assert random.getstate() == state
    assert first == run([*range(117, 109, -1)], order=1) == run([5, 3, 9, 1, 4, 2, 8, 7], order=2)
    assert len({*map(tuple, first[0])}) > 1
    assert first != run([*range(10, 18)], order=0, seed=4)


def test_the_model_is_packed_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def pack(*args: object) -> ArrayRecord:
        calls.append(args)
        return real(*args)

    real = module.pack_model
    monkeypatch.setattr(module, "pack_model", pack)
    grid = FakeGrid(fleet(4))
    play(all_around(Spy(), downlink_bits=8), grid, rounds=2)
    assert len(calls) == 2
    assert len({id(m.content["arrays"]) for m in grid.trained()}) == 1


def test_who_skips_gets_no_message_and_its_line() -> None:
    grid = FakeGrid(fleet(3))
    allocator = HybridAllocator.open(["skip", "qat-w2a2"], "qat-w2a2", OnlyFirst())
    strategy = AllocatorStrategy(Spy(), allocator, profile_seconds=0.2)
    result = play(strategy, grid)
    assert [(c.client, c.strategy, c.status) for c in strategy.ledger.clients] == [
        (0, "qat-w2a2", "ok"),
        (1, "skip", "skipped"),
        (2, "skip", "skipped"),
    ]
    assert len(grid.trained()) == 1
    np.testing.assert_allclose(values_of(result.arrays)["b"], 1.0)


def test_what_the_user_measures_of_every_new_model_reaches_the_allocator() -> None:
    models = []

    def measure(arrays: ArrayRecord) -> ServerAccuracy | None:
        models.append(float(values_of(arrays)["b"].flat[0]))
        return ServerAccuracy(0.7, 0.9, 50) if len(models) < 3 else None

    strategy = all_around(Spy(), measure=measure)
    result = play(strategy, FakeGrid(fleet(2)), 3)
    assert models[-1] == values_of(result.arrays)["b"].flat[0]
    assert len(set(models)) == 3
    assert len(strategy.allocator.loss_model) == 2


def test_a_measure_that_fails_loses_no_round(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def measure(arrays: ArrayRecord) -> object:
        calls.append(arrays)
        if len(calls) == 1:
            raise OSError("no such file")
        return ServerAccuracy(0.7, 0.9, 50) if len(calls) == 3 else (0.7, 0.9)

    strategy = all_around(Spy(), measure=measure)
    with caplog.at_level("WARNING"):
        play(strategy, FakeGrid(fleet(2)), 3)
    assert [(r.round, r.used) for r in strategy.ledger.rounds] == [(1, 2), (2, 2), (3, 2)]
    assert len(strategy.allocator.loss_model) == 1
    assert not strategy.allocator.loss_model.wants_probe(5)
    said = [r.getMessage() for r in caplog.records if "not measured" in r.getMessage()]
    assert len(said) == 2
    assert "round 1" in said[0]
    assert "no such file" in said[0]
    assert "but gave a tuple" in said[1]


class OnlyFirst:
    """The first of the cohort takes the last strategy, all others skip."""

    def __call__(self, problem, /):
        from fedhq.allocator import Answer, Status

        choice = np.zeros(problem.num_clients, np.int64)
        choice[0] = len(problem.strategies) - 1
        return Answer(Status.FEASIBLE, choice)


def test_records_are_read_like_those_of_any_run(tmp_path: Path) -> None:
    nodes = {**fleet(2), 5: Node(step=3.0)}
    strategy = all_around(Spy(), folder=tmp_path, downlink_bits=4)
    play(strategy, FakeGrid(nodes), rounds=2)
    rounds, clients = read_rounds(tmp_path), read_clients(tmp_path)
    assert rounds == strategy.ledger.rounds
    assert clients == strategy.ledger.clients
    assert [(r.round, r.selected, r.used) for r in rounds] == [(1, 3, 3), (2, 3, 3)]
    counter = MODEL["steps"].nbytes
    coded = encoded_bytes([MODEL["a"].shape, MODEL["b"].shape], 4) + counter
    listed = len('[["float32", [3, 4]], "steps", ["float32", [5]]]')
    by_client = {c.client: (c.uplink_bytes, c.downlink_bytes) for c in clients if c.round == 1}
    as_it_is = 4 * 17 + counter
    assert by_client == {
        0: (coded, coded + listed),
        1: (coded, coded + listed),
        1_000_000: (as_it_is, as_it_is),
    }
    assert rounds[0].uplink_bytes == 2 * coded + as_it_is
    assert next(c for c in clients if c.client == 1_000_000).reason.startswith("it told no profile")
    watched = WatchedRun(tmp_path)
    watched.update()
    assert watched.is_complete
    with pytest.raises(CheckpointError, match="Take another folder"):
        all_around(Spy(), folder=tmp_path)


def test_start_takes_what_flowers_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what a newer one takes: 1.43 adds `should_stop`."""
    given = {}

    def start(self, grid, initial_arrays, num_rounds=3, *, should_stop=None):
        given.update(rounds=num_rounds, should_stop=should_stop)
        return Result()

    monkeypatch.setattr(Strategy, "start", start)
    all_around(FedAvg()).start(FakeGrid({}), arrays_of(), 7, should_stop=print)
    assert given == {"rounds": 7, "should_stop": print}


@pytest.mark.parametrize(
    ("about", "rule"),
    [
        ({"downlink_bits": 1}, "`downlink_bits`"),
        ({"deadline_seconds": 0.0}, "`deadline_seconds > 0`"),
        ({"profile_seconds": float("nan")}, "`profile_seconds > 0`"),
        ({"seed": -1}, "`0 <= seed"),
    ],
)
def test_numbers_out_of_range_are_refused(about: dict[str, float], rule: str) -> None:
    allocator = HybridAllocator.open(["qat-w2a2"], "qat-w2a2")
    with pytest.raises(ValueError, match=rule):
        AllocatorStrategy(FedAvg(), allocator, **about)


ALLOCATOR = HybridAllocator.open(["qat-w2a2"], "qat-w2a2")
LEGACY = legacy.FedAvg()


@pytest.mark.parametrize(
    ("ours", "inner", "allocator", "text"),
    [
        (AllocatorStrategy, ALLOCATOR, FedAvg(), "got HybridAllocator.*allocator second"),
        (AllocatorStrategy, FedAvg(), FedAvg(), r"got FedAvg.*HybridAllocator\.open"),
        (AllocatorStrategy, FedAvg, ALLOCATOR, r"class FedAvg.*FedAvg\(\.\.\.\)"),
        (AllocatorStrategy, all_around(FedAvg()), ALLOCATOR, "nested"),
        (AllocatorStrategy, LEGACY, ALLOCATOR, "Use `LegacyAllocatorStrategy`"),
        (LegacyAllocatorStrategy, FedAvg(), ALLOCATOR, "Use `AllocatorStrategy`"),
        (LegacyAllocatorStrategy, legacy.FedAvg, ALLOCATOR, "class FedAvg"),
        (LegacyAllocatorStrategy, LEGACY, LEGACY, r"HybridAllocator\.open"),
    ],
)
def test_what_is_no_strategy_inside_or_no_allocator_is_refused_with_what_to_give(
    ours: type, inner: object, allocator: object, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        ours(inner, allocator)


def test_an_allocator_of_known_clients_a_model_without_floats_and_a_taken_name_are_refused() -> (
    None
):
    used = all_around(Spy())
    play(used, FakeGrid(fleet(2)))
    with pytest.raises(ValueError, match=r"HybridAllocator\.open"):
        AllocatorStrategy(FedAvg(), used.allocator)
    with pytest.raises(ValueError, match="started once"):
        play(used, FakeGrid(fleet(2)))
    with pytest.raises(ValueError, match="floating-point"):
        play(all_around(Spy()), FakeGrid(fleet(2)), arrays=arrays_of({"n": np.arange(3)}))
    with pytest.raises(ValueError, match="'fedhq'"):
        play(all_around(Spy(configrecord_key=RECORD)), FakeGrid(fleet(2)))


def test_evaluations_that_cannot_be_combined_are_left_out() -> None:
    def evaluate(step: float):
        def answer(message: Message, node: Node) -> Message:
            if message.metadata.message_type == "train":
                return node.train(message)
            metrics = {"num-examples": 4, "accuracy": step}
            if step == 3:
                metrics = {"num-examples": 0, "accuracy": 1.0}
            if step == 4:
                metrics = {"num-examples": 4}
            return Message(RecordDict({"m": MetricRecord(metrics)}), reply_to=message)

        return answer

    nodes = {
        k: Node(p, spoil=evaluate(k)) for k, p in zip((1, 2, 3, 4), profiled("abcd"), strict=True)
    }
    result = play(all_around(FedAvg(min_available_nodes=4)), FakeGrid(nodes))
    assert dict(result.evaluate_metrics_clientapp[1]) == {"accuracy": 1.5}
