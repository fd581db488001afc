"""`AllocatorStrategy`: goes around a strategy of Flower, decides, packs, checks, unpacks."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from ...allocator.controller import HybridAllocator
from ...allocator.errors import WireError
from ..seeds import Purpose, generator
from ..settings import QuantizationSettings
from ..wire.codec import encoded_bytes
from ..wire.header import WIRE_BITS
from .accounts import OpenRound
from .closing import close
from .enrol import Sizes
from .grid import FleetGrid
from .ledger import Ledger
from .orders import RECORD, Decision
from .packing import pack_model
from .replies import Order, RoundModel, common_metrics, has_metrics, only_metrics, read_metrics
from .roster import Roster

_POLL_SECONDS = 0.2
_TRAIN, _EVALUATE = 0, 1


class AllocatorStrategy(Strategy):
    """Any strategy of Flower, with hybrid allocation and quantized updates.

    The inner strategy samples clients and combines their models as ever. Who is sampled is planned
    by the allocator: it skips, or gets a message of its own with its decision and the packed model.
    What comes back is matched, checked and unpacked; the inner strategy sees models of full
    precision alone, in the order of the clients' names. Refused, late, failed and lost replies are
    recorded with the reason. If none is usable, the model stays as it is.

    Clients are asked once for a profile (`register_profile`). Those without are *plain*: they get
    the inner strategy's own message, are never planned, and their models are checked and count.

    The same seed gives the same cohorts and bytes whatever the nodes' ids, if the nodes have
    profiles and `min_available_nodes` is that of the fleet. Keep `skip` out of the menu where the
    inner strategy needs a fixed number of replies (accounted differential privacy). Goes outermost:
    other wrappers see packed updates else. Attributes that it lacks are the inner strategy's.

    Args:
        inner: A strategy of `flwr.serverapp`, or `ServerStrategy`.
        allocator: Of a fleet that nobody knows yet: `HybridAllocator.open`.
        folder: Where records go, for `fedhq watch`; they stay in `ledger` alone where None.
        downlink_bits: Bits per element of the model that clients receive; 32 rounds nothing.
        quantization: How QAT quantizes.
        seed: Root of all randomness but the inner strategy's own noise.
        deadline_seconds: After which a round of training closes, whatever is missing; as long as
            `start`'s time limit where None.
        profile_seconds: How long a new node has to tell its profile.

    Raises:
        ValueError: If a number is out of its range, or the allocator has clients already.
        CheckpointError: If the folder holds a run.

    Example:
        >>> from flwr.serverapp.strategy import FedAvg
        >>> allocator = HybridAllocator.open(["ptq-w2a2", "qat-w2a2"], "qat-w2a2")
        >>> strategy = AllocatorStrategy(FedAvg(fraction_train=0.5), allocator, downlink_bits=8)
        >>> strategy.fraction_train
        0.5
    """

    def __init__(
        self,
        inner: Strategy,
        allocator: HybridAllocator,
        *,
        folder: Path | str | None = None,
        downlink_bits: int = 32,
        quantization: QuantizationSettings | None = None,
        seed: int = 0,
        deadline_seconds: float | None = None,
        profile_seconds: float = 60.0,
    ) -> None:
        _check(allocator, downlink_bits, seed, deadline_seconds, profile_seconds)
        self.inner = inner
        self.allocator = allocator
        self.roster = Roster(allocator, profile_seconds)
        self.ledger = Ledger(None if folder is None else Path(folder))
        self._downlink_bits = downlink_bits
        self._quantization = quantization or QuantizationSettings()
        self._seed = seed
        self._deadline = deadline_seconds
        self._patience = profile_seconds
        self._configs = {_TRAIN: OwnConfig(), _EVALUATE: OwnConfig()}
        self._grid: FleetGrid | None = None
        self._round: OpenRound | None = None
        self._number = 0
        self._sizes: Sizes | None = None
        self._arrays_key = ""
        self._late: dict[str, Order] = {}
        self._asked: list[Message] = []

    def __getattr__(self, name: str) -> Any:
        """What only the inner strategy has."""
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def start(self, grid: Grid, *args: Any, **kwargs: Any) -> Result:
        """Runs all rounds; takes whatever the installed Flower's `Strategy.start` takes.

        Args:
            grid: Flower's.
            args: As `Strategy.start`.
            kwargs: As `Strategy.start`.

        Raises:
            FolderBusyError: If another process writes the folder.
        """
        if type(self.inner).start is not Strategy.start:
            log(WARNING, "%s.start is not used: its rounds run here.", type(self.inner).__name__)
        asked = inspect.signature(Strategy.start).bind(self, grid, *args, **kwargs)
        asked.apply_defaults()
        with self.ledger.lock():
            self.ledger.announce(int(asked.arguments["num_rounds"]))
            return super().start(self._fleet(grid), *args, **kwargs)

    def summary(self) -> None:
        """Logs the settings."""
        log(INFO, "\t├──> fedhq: menu %s, deployed at %s, model sent at %d bits",
            [str(s) for s in self.allocator.menu], self.allocator.deployed, self._downlink_bits)
        self.inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Has the inner strategy sample, plans, and writes each client its own message.

        Raises:
            ValueError: If the model has nothing to code, or the inner strategy's messages hold no
                record of it, or two messages go to one node.
            DivergedError: If a weight is not finite.
        """
        start = time.perf_counter()
        fleet = self._begin(server_round, arrays, grid)
        self._await_nodes(fleet)
        with seeded(self._seed, server_round, _TRAIN):
            asked = self.inner.configure_train(
                server_round, arrays, self._configs[_TRAIN].of(config), fleet
            )
            messages = list(asked)
        key = _arrays_key(messages, arrays)
        model = RoundModel.of(arrays, key, self._inner_name("weighted_by_key"))
        assert self._sizes is not None
        opened = OpenRound(server_round, model, self._sizes)
        out = self._orders(opened, messages)
        self._round = opened
        opened.plan_seconds = time.perf_counter() - start
        opened.started = time.monotonic()
        return out

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Checks and unpacks what came, hands it on, and records all of it."""
        opened, self._round = self._round, None
        if opened is None or opened.number != server_round:
            raise ValueError(
                f"`configure_train` of round {server_round} must come before `aggregate_train`, "
                "but did not. Call them in turn."
            )
        closed = close(self, opened, list(replies), self._grid, self._late)
        self._late |= closed.missing
        self.ledger.append(closed.round, closed.clients, closed.wall)
        return closed.arrays, closed.metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's, sampled from nodes in order; the model is sent as it is."""
        fleet = self._begin(server_round, arrays, grid)
        with seeded(self._seed, server_round, _EVALUATE):
            asked = self.inner.configure_evaluate(
                server_round, arrays, self._configs[_EVALUATE].of(config), fleet
            )
            self._asked = list(asked)
        return self._asked

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Hands on the replies that can be combined, in the order of names; logs the others."""
        key = self._inner_name("weighted_by_key")
        nodes = {m.metadata.message_id: m.metadata.dst_node_id for m in self._asked}
        good: dict[int, tuple[Message, str, MetricRecord]] = {}
        for reply in sorted(replies, key=lambda r: r.metadata.created_at):
            node = nodes.get(reply.metadata.reply_to_message_id)
            try:
                if reply.has_error():
                    raise WireError(str(reply.error))
                if node is None or node in good:
                    raise WireError("it answers no message that is open")
                good[node] = (reply, *read_metrics(reply, key)[:2])
            except WireError as error:
                log(WARNING, "evaluation of node %s does not count: %s", node, error)
        if not good:
            return None
        form = common_metrics([metrics for _, _, metrics in good.values()])
        name = max(n for _, n, _ in good.values())
        handed = []
        for node in self.roster.ordered(good):
            reply, _, metrics = good[node]
            if has_metrics(metrics, form):
                content = dict.fromkeys(())
        return self.inner.aggregate_evaluate(server_round, handed)
