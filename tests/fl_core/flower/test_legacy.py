"""The legacy API: Flower's own server, proxies and clients, in one process."""

import numpy as np
import pytest
from flower_legacy import CODED, MODEL, NAMES, Fleet, Spy, records, run
from flwr.app import Error
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.server import Server

from fedhq.allocator import HybridAllocator
from fedhq.fl_core.flower.legacy.strategy import LegacyAllocatorStrategy
from fedhq.fl_core.flower.messages.orders import cannot
from fedhq.fl_core.flower.server.roster import PLAIN_CLIENTS
from fedhq.fl_core.rounds.uplink import Uplink


def test_floats_give_the_model_of_the_strategy_alone():
    trained, _ = run(Fleet(), menu=["fp32"], rounds=2)
    plain = Server(client_manager=Fleet().manager, strategy=Spy())
    plain.fit(2, timeout=None)
    for ours, theirs in zip(trained, parameters_to_ndarrays(plain.parameters), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
        assert ours.shape == theirs.shape
    assert [v.dtype for v in trained] == [v.dtype for v in MODEL]


@pytest.mark.parametrize("bits", [4, 32])
def test_each_client_gets_its_decision_and_sends_the_bytes_of_the_in_process_trainer(bits):
    fleet = Fleet()
    _, strategy = run(fleet, menu=["ptq-w2a2"], rounds=2, downlink_bits=bits, seed=5)
    assert [d.client for _, d, *_ in sorted(fleet.told[:3], key=lambda t: t[0])] == [0, 1, 2]
    uplink, sizes = Uplink(seed=5), {}
    for number, decision, config, received in fleet.told:
        assert "fedhq" not in config
        assert [v.dtype for v in received] == [v.dtype for v in MODEL]
        update = {
            str(k): np.asarray(received[k] + received[k].dtype.type(number) - received[k], "f4")
            for k in CODED
        }
        payload = uplink.send(decision.round_number, decision.client, 4, update, 10 * number)
        sizes[decision.round_number, decision.client] = len(payload)
    for client in (0, 1, 2):
        record = records(strategy, 2)[client]
        plain = MODEL[1].nbytes + MODEL[2].nbytes
        assert record.status == "ok"
        assert record.uplink_bytes == sizes[2, client] + plain
        assert record.num_examples == 10 * (client + 1)


def test_the_inner_strategy_sees_models_of_full_precision_and_its_clients_metrics():
    inner = Spy(
        fit_metrics_aggregation_fn=lambda all_: {"names": ",".join(m["name"] for _, m in all_)}
    )
    _, strategy = run(Fleet(), inner=inner)
    (results,) = inner.handed
    assert [fit.metrics for _, fit in results] == [
        {"name": f"site-{k}", "good": True} for k in (1, 2, 3)
    ]
    for number, (_, fit) in enumerate(results, start=1):
        values = parameters_to_ndarrays(fit.parameters)
        assert [v.shape for v in values] == [v.shape for v in MODEL]
        assert [v.dtype for v in values] == [v.dtype for v in MODEL]
        assert (values[1] == MODEL[1] + number).all()  # statistics travel as they are
        assert abs(float((values[0] - MODEL[0]).mean()) - number) < 0.01
    assert strategy.fraction_fit == 1.0  # what only the inner strategy has


def test_skip_gets_no_message_and_plain_clients_train_as_ever():
    fleet = Fleet(site_2={"profiled": False})
    _, strategy = run(fleet, menu=["skip", "ptq-w2a2", "qat-w2a2"])
    told = {number: decision for number, decision, *_ in fleet.told}
    assert told[2] is None
    planned = records(strategy)
    skipped = {c for c, r in planned.items() if r.status == "skipped"}
    assert {told[n].client for n in told if told[n]} == {0, 1} - skipped
    (plain,) = [record for client, record in planned.items() if client >= PLAIN_CLIENTS]
    assert (plain.status, plain.strategy) == ("ok", "fp32")


def raise_it(parameters):
    raise OSError("no space left")


def refuse_it(parameters):
    raise cannot("ptq-w2a2 does not fit this model")


def spoil_it(parameters):
    return [v * np.nan if v.dtype.kind == "f" else v for v in parameters], 1, {}


def test_failures_are_recorded_as_whose_they_are_and_survived():
    fleet = Fleet(
        4, site_1={"spoil": raise_it}, site_2={"spoil": spoil_it}, site_4={"spoil": refuse_it}
    )
    trained, strategy = run(fleet, menu=["ptq-w2a2", "ptq-w4a4"], rounds=2)
    found = records(strategy)
    assert {client: r.status for client, r in found.items()} == {
        0: "failed",
        1: "failed",
        2: "ok",
        3: "failed",
    }
    assert "no space left" in found[0].reason
    assert "finite" in found[1].reason
    assert "fedhq: ptq-w2a2 does not fit" in found[3].reason
    assert all(np.isfinite(v).all() for v in trained)
    second = records(strategy, 2)  # only who cannot gets another decision
    assert [second[client].strategy for client in (0, 1, 3)] == ["ptq-w2a2", "ptq-w2a2", "ptq-w4a4"]


@pytest.mark.parametrize("count", [1, 2])
def test_failures_that_flowers_workflows_forget_whose_they_are_still_count(count):
    """A client that cannot is believed where no other can be meant, and nobody else is."""
    fleet = Fleet(count)
    allocator = HybridAllocator.open(["ptq-w2a2", "ptq-w4a4"], "qat-w2a2", learn=False)
    strategy = LegacyAllocatorStrategy(Spy(), allocator, profile_seconds=5.0)
    start = ndarrays_to_parameters(MODEL)
    said = [Exception(Error(2, str(cannot("too little memory")))) for _ in range(count)]
    for number in (1, 2):
        assert len(strategy.configure_fit(number, start, fleet.manager)) == count
        assert strategy.aggregate_fit(number, [], said) == (None, {})
    first, second = records(strategy, 1)[0], records(strategy, 2)[0]
    assert (first.status, first.strategy) == ("failed", "ptq-w2a2")
    assert "too little memory" in first.reason
    assert second.strategy == ("ptq-w4a4" if count == 1 else "ptq-w2a2")


def test_if_all_fail_the_model_stays():
    trained, _ = run(Fleet(2, site_1={"spoil": raise_it}, site_2={"spoil": spoil_it}))
    assert all((a == b).all() for a, b in zip(trained, MODEL, strict=True))


def test_the_same_seed_draws_the_same_clients_whatever_their_nodes():
    drawn = []
    for node_ids in ([11, 12, 13, 14, 15], [905, 33, 78, 2, 51]):
        fleet = Fleet(node_ids=node_ids)
        trained, _ = run(fleet, inner=Spy(fraction_fit=0.4), rounds=3, seed=3)
        drawn.append(([(n, d.round_number) for n, d, *_ in fleet.told], trained))
    assert sorted(drawn[0][0]) == sorted(drawn[1][0])
    assert all((a == b).all() for a, b in zip(drawn[0][1], drawn[1][1], strict=True))


def test_without_names_all_floats_are_coded():
    fleet = Fleet(1)
    run(fleet, tensor_names=None)
    assert fleet.told[0][1].names == ("0", "1", "3")
    with pytest.raises(ValueError, match="`tensor_names` must name the 4 parameters"):
        run(Fleet(1), tensor_names=NAMES[:2])


def test_a_strategy_with_models_of_its_own_is_refused():
    class Own(Spy):
        def configure_fit(self, server_round, parameters, client_manager):
            pairs = super().configure_fit(server_round, parameters, client_manager)
            pairs[0][1].parameters = ndarrays_to_parameters([v * 2 for v in MODEL])
            return pairs

    with pytest.raises(ValueError, match="sends all clients the model"):
        run(Fleet(), inner=Own())
