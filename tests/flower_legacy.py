"""Clients of the legacy API in this process, and a run of them by Flower's own server."""

import numpy as np
from flower_clients import context
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.server import Server
from flwr.server.strategy import FedAvg

from fedhq.allocator import HybridAllocator
from fedhq.fl_core.flower.client.mod import quant_mod
from fedhq.fl_core.flower.client.training import decision_of
from fedhq.fl_core.flower.legacy.strategy import LegacyAllocatorStrategy
from fedhq.fl_core.flower.messages.profile import ClientProfile

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

    def __init__(self, number, told, profiled=True, spoil=None, ignorant=False):
        self.number, self.told, self.profiled, self.spoil = number, told, profiled, spoil
        self.ignorant = ignorant

    def get_properties(self, config):
        profile = ClientProfile(f"site-{self.number}", num_examples=10 * self.number)
        return profile.to_properties() if self.profiled else {}

    def fit(self, parameters, config):
        decision = None if self.ignorant else decision_of(config)
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
            about = {"ignorant": not mods, **odd.get(f"site_{number}", {})}
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
