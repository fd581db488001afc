"""`ServerStrategy` gives the weights of the in-process server, to the last bit."""

import numpy as np
import pytest
from flower_fleet import FakeGrid, Node, all_around, arrays_of, play, profiled, values_of
from flwr.app import ConfigRecord, Message

from fedhq.fl_core.flower.messages.orders import RECORD, Decision
from fedhq.fl_core.flower.messages.packing import unpack_update
from fedhq.fl_core.flower.server.own import ServerStrategy
from fedhq.fl_core.server.inbox import Arrival
from fedhq.fl_core.server.server import Server
from fedhq.fl_core.settings import ServerSettings

NOISE = np.random.default_rng(5)
WEIGHTS = {
    "w": NOISE.normal(size=(6, 40)).astype(np.float32),
    "b": NOISE.normal(size=7).astype(np.float32),
}
COUNTER = {**WEIGHTS, "n": np.array(4), "bn.running_mean": np.ones(2, np.float32)}
ABOUT = {"min_available_nodes": 3, "fraction_evaluate": 0.0}


class Noisy(Node):
    """Moves each weight by another amount; keeps what it sent."""

    def moved(self, arrays, by):
        rng = np.random.default_rng(int(by))
        return arrays_of(
            {
                k: v + rng.normal(size=v.shape).astype(np.float32)
                if v.dtype.kind == "f"
                else v + int(by)
                for k, v in values_of(arrays).items()
            }
        )

    def train(self, message: Message, step: float | None = None) -> Message:
        self.sent = super().train(message, step)
        return self.sent


def noisy(profiles) -> dict[int, Noisy]:
    return {
        90 - k: Noisy(profile, step=k + 1.0, num_examples=10 * (k + 1))
        for k, profile in enumerate(profiles)
    }


SETTINGS = [
    ServerSettings(),
    ServerSettings(optimizer="fedadam", learning_rate=0.1),
    ServerSettings(aggregation="median"),
    ServerSettings(weighting="error_aware", norm_bound=1.0),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.optimizer}-{s.aggregation}")
def test_payloads_give_the_weights_of_the_in_process_server_to_the_bit(settings) -> None:
    nodes = noisy(profiled("abc"))
    strategy = all_around(ServerStrategy(settings, **ABOUT), seed=2)
    grid = FakeGrid(nodes)
    server = Server(WEIGHTS, settings, [10, 20, 30])
    given = arrays_of(WEIGHTS)
    for number in (1, 2):
        asked = strategy.configure_train(number, given, ConfigRecord(), strategy._fleet(grid))
        replies = strategy._fleet(grid).send_and_receive(asked, timeout=1)
        new, metrics = strategy.aggregate_train(number, replies)
        arrivals = [
            Arrival(k, number, sent(node, given), 4) for k, node in enumerate(nodes.values())
        ]
        applied = server.apply(number, arrivals)
        assert applied.num_used == 3
        shares = [c.share for c in strategy.ledger.clients if c.round == number]
        assert shares == [receipt.share for receipt in applied.receipts]
        for name, values in values_of(new).items():
            assert values.tobytes() == server.weights[name].tobytes()
        assert dict(metrics) == {"train_loss": 0.5}
        given = new


def sent(node: Noisy, arrays) -> bytes:
    decision = Decision.from_record(node.seen[-1].content[RECORD])
    return unpack_update(node.sent.content["arrays"], arrays, decision)[0]


def test_alone_it_averages_models_as_flower_does_and_counters_stay_whole() -> None:
    nodes = noisy([None] * 3)
    result = ServerStrategy(**ABOUT).start(FakeGrid(nodes), arrays_of(COUNTER), num_rounds=1)
    got = values_of(result.arrays)
    models = [values_of(node.sent.content["arrays"]) for node in nodes.values()]
    for name in COUNTER:
        mean = np.average([m[name] for m in models], axis=0, weights=[10, 20, 30])
        np.testing.assert_allclose(got[name], np.round(mean) if name == "n" else mean, atol=1e-6)
        assert got[name].dtype == COUNTER[name].dtype


def test_plain_clients_and_others_are_combined_together() -> None:
    nodes = {1: Node(*profiled("a"), step=1.0), 2: Node(step=3.0)}
    strategy = all_around(ServerStrategy(fraction_evaluate=0.0))
    result = play(strategy, FakeGrid(nodes), arrays=arrays_of(COUNTER))
    np.testing.assert_allclose(values_of(result.arrays)["w"], WEIGHTS["w"] + 2, rtol=1e-5)
    assert [c.share for c in strategy.ledger.clients] == [0.5, 0.5]


def test_an_outlier_is_refused_with_its_norm() -> None:
    nodes = {
        k: Node(p, step=s) for k, (p, s) in enumerate(zip(profiled("abc"), (1, 1, 90), strict=True))
    }
    strategy = all_around(ServerStrategy(ServerSettings(outlier_factor=3.0), **ABOUT))
    play(strategy, FakeGrid(nodes), arrays=arrays_of(WEIGHTS))
    last = strategy.ledger.clients[-1]
    assert (last.client, last.status, last.share) == (2, "refused", 0.0)
    assert "outlier_factor" in last.reason


def test_stale_updates_are_none_of_flowers() -> None:
    with pytest.raises(ValueError, match="max_staleness = 0"):
        ServerStrategy(ServerSettings(max_staleness=1))
