"""`ServerStrategy`: Flower's FedAvg with fedhq's own server, which combines updates.

Under `AllocatorStrategy` it takes the payloads that clients sent, as the in-process trainer's
server does: the same payloads give the same weights to the last bit. Alone, it takes the models of
ordinary clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from ...server.inbox import Arrival, ArrivalStatus
from ...server.server import Receipt, Server
from ...settings import ServerSettings
from ...weights import Weights
from ...wire.codec import encode_update
from ...wire.rounding import RAW_BITS
from ..messages.npy import read_array
from ..messages.packing import coded_names
from .replies import Values


@dataclass(frozen=True, eq=False)
class ClientUpdate:
    """What a client sent.

    Args:
        values: The client's model: of the names, shapes and types of the server's.
        num_examples: Examples behind it.
        content: Of its reply; its metrics are read.
        payload: Its update, as the wire codec writes it; empty of a client that sent a model.
        client: Its number, which the payload names; it is not read without a payload.
        wire_bits: At which it was told to send.
    """

    values: Values
    num_examples: int
    content: RecordDict
    payload: bytes = b""
    client: int = 0
    wire_bits: int = RAW_BITS


class ServerStrategy(FedAvg):
    """Combines updates as `fl_core.server` does: robust means, FedAdam, norm bounds, and more.

    Statistics and counters that are not coded are averaged by examples.

    Args:
        settings: How updates are weighed, combined and applied.
        fraction_train: As Flower's FedAvg, like all below.
        fraction_evaluate: Share of the nodes that evaluate.
        min_train_nodes: Least nodes that train.
        min_evaluate_nodes: Least nodes that evaluate.
        min_available_nodes: Nodes without which no round begins.
        weighted_by_key: Metric that says how many examples a client trained on, a whole number.
        arrayrecord_key: Name of the model in messages.
        configrecord_key: Name of the configuration in messages.

    Example:
        >>> ServerStrategy(ServerSettings(aggregation="median"), fraction_train=0.5).arrayrecord_key
        'arrays'
    """

    def __init__(
        self,
        settings: ServerSettings | None = None,
        *,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = "num-examples",
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
    ) -> None:
        super().__init__(
            fraction_train=fraction_train,
            fraction_evaluate=fraction_evaluate,
            min_train_nodes=min_train_nodes,
            min_evaluate_nodes=min_evaluate_nodes,
            min_available_nodes=min_available_nodes,
            weighted_by_key=weighted_by_key,
            arrayrecord_key=arrayrecord_key,
            configrecord_key=configrecord_key,
        )
        self._settings = settings or ServerSettings()
        if self._settings.max_staleness:
            raise ValueError(
                "`max_staleness = 0` must hold in Flower, whose rounds are synchronous, but got "
                f"{self._settings.max_staleness}. Leave it out."
            )
        self._arrays = ArrayRecord()
        self._tensors: Weights = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As FedAvg's; notes the model."""
        self._arrays = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Takes models; whoever sent one of other names or shapes makes it raise, as in FedAvg.

        Raises:
            WireError: If an array is none.
            DivergedError: If the weights would not stay finite.
        """
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        ordered = sorted(valid, key=lambda reply: reply.metadata.src_node_id)
        updates = [self._as_update(reply.content) for reply in ordered]
        return self.aggregate_updates(server_round, self._arrays, updates)[:2]

    def aggregate_updates(
        self, server_round: int, arrays: ArrayRecord, updates: Sequence[ClientUpdate]
    ) -> tuple[ArrayRecord | None, MetricRecord | None, Sequence[Receipt]]:
        """Takes updates.

        Args:
            server_round: The round.
            arrays: The model that the server had sent.
            updates: What came, in the order of the clients.

        Returns:
            The new model, None if nothing moved it; metrics of those that were taken; what became
            of every update.

        Raises:
            DivergedError: If the weights would not stay finite: all is as it was before.
        """
        names = coded_names(arrays)
        old = {name: read_array(name, arrays[name]) for name in arrays}
        weights = {name: np.asarray(old[name], np.float32) for name in names}
        first_free = max((u.client + 1 for u in updates if u.payload), default=0)
        arrivals = []
        known = [0] * (first_free + len(updates))
        for place, update in enumerate(updates):
            client = update.client if update.payload else first_free + place
            payload = update.payload or _encoded(update, weights, server_round, client)
            arrivals.append(Arrival(client, server_round, payload, update.wire_bits))
            known[client] = update.num_examples
        server = Server(weights, self._settings, known)
        if self._tensors:
            kept = {f"weights/{name}": values for name, values in weights.items()}
            state = {"round_number": server_round - 1, "taken": []}
            server.load_state_dict(state, {**self._tensors, **kept})
        applied = server.apply(server_round, arrivals)
        self._tensors = server.state_dict()[1]
        pairs = zip(updates, applied.receipts, strict=True)
        used = [update for update, receipt in pairs if receipt.status is ArrivalStatus.OK]
        if not applied.changed:
            return None, None, applied.receipts
        new = {n: _new(n, values, server.weights, used) for n, values in old.items()}
        metrics = self.train_metrics_aggr_fn([u.content for u in used], self.weighted_by_key)
        model = ArrayRecord({name: Array(values) for name, values in new.items()})
        return model, metrics, applied.receipts

    def _as_update(self, content: RecordDict) -> ClientUpdate:
        (arrays,) = content.array_records.values()
        (metrics,) = content.metric_records.values()
        count = metrics[self.weighted_by_key]
        assert isinstance(count, int | float)  # FedAvg has checked
        return ClientUpdate({n: read_array(n, arrays[n]) for n in arrays}, int(count), content)


def _encoded(update: ClientUpdate, weights: Weights, round_number: int, client: int) -> bytes:
    """The change that a client's model makes, nothing rounded."""
    change = {
        name: np.subtract(update.values[name], old, dtype=np.float32)
        for name, old in weights.items()
    }
    return encode_update(
        change,
        wire_bits=RAW_BITS,
        round_number=round_number,
        client=client,
        num_examples=update.num_examples,
        rng=np.random.default_rng(0),
    )


def _new(
    name: str, old: NDArray[Any], weights: Weights, used: Sequence[ClientUpdate]
) -> NDArray[Any]:
    """A tensor after the round, of the type that it had."""
    if name in weights:
        return weights[name].astype(old.dtype, copy=False)
    total = max(sum(update.num_examples for update in used), 1)
    mean = np.zeros(old.shape)
    for update in used:
        mean += update.values[name] * (update.num_examples / total)
    whole = mean if old.dtype.kind == "f" else np.rint(mean)
    return np.asarray(whole.astype(old.dtype))
