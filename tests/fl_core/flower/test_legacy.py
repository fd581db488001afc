"""The legacy API: Flower's own server, proxies and clients, in one process."""

import numpy as np
import pytest
from flower_clients import context
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.server import Server
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD

from fedhq.allocator import HybridAllocator
from fedhq.fl_core.flower.client.mod import quant_mod
from fedhq.fl_core.flower.client.training import decision_of
from fedhq.fl_core.flower.legacy.strategy import LegacyAllocatorStrategy
from fedhq.fl_core.flower.messages.orders import cannot
from fedhq.fl_core.flower.messages.profile import ClientProfile
from fedhq.fl_core.flower.server.roster import PLAIN_CLIENTS
from fedhq.fl_core.rounds.uplink import Uplink

RNG = np.random.default_rng(0)
MODEL = [
    RNG.normal(size=(40, 50)).astype(np.float32),
    np.ones(6, np.float32),  # a layer's running variance
    np.array(3),
    RNG.normal(size=5),
]
NAMES = ["fc.weight", "bn.running_var", "bn.num_batches_tracked", "fc.bias"]
CODED = (0, 3)


class Site(NumPyClient):
    """Moves every weight by its own step, and notes what it was told."""

    def __init__(self, number, told, profiled=True, spoil=None):
        self.number, self.told, self.profiled, self.spoil = number, told, profiled, spoil

    def get_properties(self, config):
        profile = ClientProfile(f"site-{self.number}", num_examples=10 * self.number)
        return profile.to_properties() if self.profiled else {}

    def fit(self, parameters, config):
        decision = None if "fedhq" in config else decision_of(config)  # no mod took it out
        self.told.append((self.number, decision, dict(config), parameters))
        if self.spoil:
            return self.spoil(parameters)
        moved = [v + v.dtype.type(self.number) for v in parameters]
        return moved, 10 * self.number, {"name": f"site-{self.number}", "good": True}


def made_of(site):
    def client_fn(context: Context):
        return site.to_client()

    return client_fn


class Fleet:
    """A grid and a manager of clients that answer in this process."""

    def __init__(self, count=3, node_ids=None, mods=(quant_mod,), **odd):
        self.told, self.apps, self.contexts = [], {}, {}
        self.manager = SimpleClientManager()
        node_ids = node_ids or [9000 - 7 * k for k in range(count)]
        for number, node in enumerate(node_ids, start=1):
            about = odd.get(f"site_{number}", {})
            site = Site(number, self.told, **about)
            self.apps[node] = ClientApp(made_of(site), mods=[*mods])
            self.contexts[node] = context()
            self.manager.register(GridClientProxy(node, self, run_id=1))

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            content = {  # workflows share records among messages, which mods change
                name: ConfigRecord(dict(one)) if isinstance(one, ConfigRecord) else one
                for name, one in message.content.items()
            }
            carried = Message(RecordDict(content), node, message.metadata.message_type)
            try:
                replies.append(self.apps[node](carried, self.contexts[node]))
            except Exception as error:
                reason = f"{type(error)}:<'{error}'>"
                replies.append(Message(Error(2, reason), reply_to=carried))
        return replies


class Spy(FedAvg):
    def __init__(self, **about):
        defaults = {"fraction_evaluate": 0.0, "min_fit_clients": 1, "min_available_clients": 1}
        start = ndarrays_to_parameters(MODEL)
        super().__init__(**{**defaults, "initial_parameters": start, **about})
        self.handed = []

    def aggregate_fit(self, server_round, results, failures):
        self.handed.append(results)
        return super().aggregate_fit(server_round, results, failures)


def run(fleet, menu=("ptq-w2a2",), rounds=1, inner=None, **about):
    inner = inner or Spy()
    allocator = HybridAllocator.open(menu, "qat-w2a2", learn=False)
    strategy = LegacyAllocatorStrategy(
        inner, allocator, profile_seconds=5.0, **{"tensor_names": NAMES, **about}
    )
    server = Server(client_manager=fleet.manager, strategy=strategy)
    server.fit(rounds, timeout=None)
    return parameters_to_ndarrays(server.parameters), strategy


def records(strategy, number=1):
    return {r.client: r for r in strategy.allocation.ledger.clients if r.round == number}


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


class Hears(HybridAllocator):
    """Keeps what it is told of its last round."""

    heard = ()

    def observe(self, outcomes):
        self.heard = outcomes


def heard_of(fleet, menu):
    """Records of a round, and what the allocator learns of it."""
    allocator = Hears.open(menu, "qat-w2a2", learn=False)
    strategy = LegacyAllocatorStrategy(Spy(), allocator, tensor_names=NAMES, profile_seconds=5.0)
    Server(client_manager=fleet.manager, strategy=strategy).fit(1, timeout=None)
    return records(strategy), allocator.heard


def test_a_client_without_the_mod_trains_in_float_in_the_time_that_passed():
    found, heard = heard_of(Fleet(mods=[]), ["ptq-w2a2-u32"])
    assert {r.status for r in found.values()} == {"ok"}
    assert [o.seconds for o in heard] == [r.seconds for r in found.values()]


def test_a_client_without_the_mod_has_done_no_qat():
    found, heard = heard_of(Fleet(mods=[]), ["qat-w2a2-u32"])
    assert {r.status for r in found.values()} == {"refused"}
    assert all("Put `quant_mod` first" in r.reason for r in found.values())
    assert not any(o.succeeded for o in heard)


@pytest.mark.parametrize("claimed", [-1, 2**40])
def test_an_impossible_number_of_examples_fails_one_client(claimed):
    def claims(parameters):
        return parameters, claimed, {}

    found, _ = heard_of(Fleet(mods=[], site_2={"spoil": claims}), ["fp32"])
    assert [r.status for r in found.values()] == ["ok", "failed", "ok"]
    assert f"num_examples < 2**32` must hold for a payload, but got {claimed}" in found[1].reason


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


# --- Secure aggregation ---


def secure_round(menu):
    fleet = Fleet(mods=[secaggplus_mod, quant_mod])
    allocator = Hears.open(menu, "qat-w2a2", learn=False)
    strategy = LegacyAllocatorStrategy(Spy(), allocator, tensor_names=NAMES, profile_seconds=5.0)
    ctxt = LegacyContext(
        Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={}),
        strategy=strategy,
        client_manager=fleet.manager,
    )
    ctxt.state[MAIN_CONFIGS_RECORD] = ConfigRecord({"current_round": 1})
    start = strategy.initialize_parameters(fleet.manager)
    from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord

    ctxt.state[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(start, keep_input=True)
    SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2, timeout=5.0)(fleet, ctxt)
    after = [array.numpy() for array in ctxt.state[MAIN_PARAMS_RECORD].values()]
    return after, fleet, allocator.heard


def test_secure_aggregation_with_rounded_updates_is_refused_by_every_client():
    after, fleet, _ = secure_round(["ptq-w2a2"])
    assert not fleet.told
    assert all((a == b).all() for a, b in zip(after, MODEL, strict=True))


@pytest.mark.parametrize("menu", [["fp32"], ["qat-w2a2-u32"]])
def test_secure_aggregation_of_floats_works_and_clients_tell_their_times(menu):
    after, fleet, heard = secure_round(menu)
    assert {d.strategy.wire_bits for _, d, *_ in fleet.told} == {32}
    mean = (10 * 1 + 20 * 2 + 30 * 3) / 60
    np.testing.assert_allclose(after[0], MODEL[0] + mean, atol=0.01)
    assert [(o.client, o.succeeded) for o in heard] == [(0, True), (1, True), (2, True)]
    assert len({o.seconds for o in heard}) == 3  # each its own, and not the round's
