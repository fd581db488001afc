"""`AllocatorStrategy`: goes around a strategy of Flower, decides, packs, checks, unpacks."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore import log

from ....allocator.controller import HybridAllocator, ServerAccuracy
from ...records.records import ClientRecord
from ...settings import QuantizationSettings
from . import accounts
from .accounts import Answer, OpenRound
from .arrivals import Arrivals
from .closing import hand_on
from .enrol import Sizes, sizes_of
from .evaluation import measured_of, sound_evaluations
from .grid import FleetGrid
from .inner import OwnConfig, check_inner, model_key, number_of, seeded, setting_of
from .ledger import Ledger
from .notices import Notices
from .planning import Wire, asked_members, plan
from .replies import Refused, RoundModel
from .roster import Member, Roster

_POLL_SECONDS = 0.2
_TRAIN, _EVALUATE = 0, 1
_LEAST_NODES = 2  # Flower's own default


class AllocatorStrategy(Strategy):
    """Any strategy of Flower, with hybrid allocation and quantized updates.

    The inner strategy samples clients and combines their models as ever. Who is sampled is planned
    by the allocator: it skips, or gets a message of its own with its decision and the packed model.
    What comes back is matched, checked and unpacked; the inner strategy sees models of full
    precision alone, in the order of the clients' names. Refused, late, failed and lost replies are
    recorded with the reason. If none is usable, the model stays as it is.

    Clients are asked once for a profile (`register_profile`). Those without are *plain*: they get
    the inner strategy's own message, are never planned, and their models are checked and count.

    The same seed gives the same cohorts whatever the nodes' ids, and with an allocator that learns
    no times (`learn=False`) the same bytes, if the nodes have profiles and `min_available_nodes` is
    that of the fleet. Keep `skip` out of the menu where the inner strategy needs a fixed number of
    replies (accounted differential privacy). Goes outermost: other wrappers see packed updates
    else. Attributes that it lacks are the inner strategy's.

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
        measure: Measures a round's new model on examples of the server's own, as deployed and in
            float; the allocator then learns how much quantization hurts. It gets the arrays that
            the inner strategy gave, and may return None. A round in which it fails counts as not
            measured, with a warning. Nothing is measured where not given.

    Raises:
        ValueError: If `inner` is no strategy of `flwr.serverapp`, a number is out of its range, or
            the allocator has clients already.
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
        measure: Callable[[ArrayRecord], ServerAccuracy | None] | None = None,
    ) -> None:
        if deadline_seconds is not None and not deadline_seconds > 0:
            raise ValueError(f"`deadline_seconds > 0` must hold, but got {deadline_seconds}.")
        check_inner(inner, Strategy, AllocatorStrategy, "LegacyAllocatorStrategy")
        self.inner = inner
        self.allocator = allocator
        self.roster = Roster(allocator, profile_seconds)
        self.ledger = Ledger(None if folder is None else Path(folder))
        self._wire = Wire(downlink_bits, quantization or QuantizationSettings(), seed)
        self._deadline = deadline_seconds
        self._measure = measure
        self._patience = profile_seconds
        self._configs = {_TRAIN: OwnConfig(), _EVALUATE: OwnConfig()}
        self._grid: FleetGrid | None = None
        self._number = 0
        self._sizes = Sizes((), 0)
        self._round: OpenRound | None = None
        self._arrivals = Arrivals()
        self._late_lines: list[ClientRecord] = []
        self._evaluators: list[Message] = []
        self._notices = Notices()

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
            ValueError: If it was started before.
            FolderBusyError: If another process writes the folder.
        """
        if self.ledger.rounds:
            raise ValueError(
                f"a strategy must be started once, but this one has done {len(self.ledger.rounds)} "
                "rounds. Make another, with an allocator of its own."
            )
        if type(self.inner).start is not Strategy.start:
            log(WARNING, "%s.start is not used: rounds run here.", type(self.inner).__name__)
        asked = inspect.signature(Strategy.start).bind(self, grid, *args, **kwargs)
        asked.apply_defaults()
        with self.ledger.lock():
            self.ledger.announce(int(asked.arguments["num_rounds"]))
            result = super().start(self._fleet(grid), *args, **kwargs)
        if not result.arrays:  # no round changed the model
            result.arrays = asked.arguments["initial_arrays"]
        return result

    def summary(self) -> None:
        """Logs the settings."""
        menu = ", ".join(str(strategy) for strategy in self.allocator.menu)
        log(INFO, "\t├──> fedhq: %s, deployed at %s", menu, self.allocator.deployed)
        log(INFO, "\t│\t└── Model sent at %d bits", self._wire.downlink_bits)
        self.inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Has the inner strategy sample, plans, and writes each client its own message.

        Raises:
            ValueError: If the model has nothing to code, or the inner strategy's messages do not
                hold it, or two go to one node.
            DivergedError: If a weight is not finite.
        """
        start = time.perf_counter()
        fleet = self._begin(server_round, arrays, grid)
        self._await_nodes(fleet)
        own = self._configs[_TRAIN].of(config)
        with seeded(self._wire.seed, server_round, _TRAIN):
            messages = list(self.inner.configure_train(server_round, arrays, own, fleet))
        key = model_key(messages, arrays) if messages else ""
        model = RoundModel.of(arrays, key, setting_of(self.inner, "weighted_by_key"))
        self._round = opened = OpenRound(server_round, model, self._sizes)
        asked = asked_members(messages, self.roster)
        self._hear_late()  # also what came while newcomers were asked
        plan(opened, asked, self._arrivals.busy(fleet), self.allocator, self._wire)
        opened.plan_seconds = time.perf_counter() - start
        opened.started = time.monotonic()
        return [task.message for task in opened.tasks]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Checks and unpacks what came, hands it on, and records all of it.

        Raises:
            ValueError: If the round was not configured, or the inner strategy gives another model.
        """
        opened, self._round = self._round, None
        if opened is None or opened.number != server_round:
            raise ValueError(
                f"`configure_train` of round {server_round} must come before `aggregate_train`, "
                "but did not. Call them in turn."
            )
        seconds, start = time.monotonic() - opened.started, time.perf_counter()
        by_task, strays = accounts.match(opened.tasks, replies)
        answers = self._arrivals.answers(opened, by_task, seconds, self._grid)
        arrays, metrics = hand_on(self.inner, server_round, opened.model, answers)
        measured = measured_of(self._measure, arrays, server_round)
        self._learn(opened, answers, measured)
        self._hear_late()
        lines = [
            accounts.stray_record(
                server_round, reply, task, self.roster.member(reply.metadata.src_node_id)
            )
            for reply, task in strays
        ]
        self._record(opened, answers, lines, seconds, time.perf_counter() - start)
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's, sampled from nodes in order; the model is sent as it is."""
        fleet = self._begin(server_round, arrays, grid)
        own = self._configs[_EVALUATE].of(config)
        with seeded(self._wire.seed, server_round, _EVALUATE):
            messages = list(self.inner.configure_evaluate(server_round, arrays, own, fleet))
        self._evaluators = messages
        return messages

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Hands on the replies that can be combined, in the order of names; logs the others."""
        nodes = {m.metadata.message_id: m.metadata.dst_node_id for m in self._evaluators}
        key = setting_of(self.inner, "weighted_by_key")
        sound = sound_evaluations(replies, nodes, key)
        if not sound:
            return None
        ordered = [sound[node] for node in self.roster.ordered(sound)]
        return self.inner.aggregate_evaluate(server_round, ordered)

    def _fleet(self, grid: Grid) -> FleetGrid:
        """Our grid around Flower's, always the same."""
        if isinstance(grid, FleetGrid):
            return grid
        if self._grid is None or self._grid.inner is not grid:
            self._grid = FleetGrid(grid, self._meet, self._deadline)
        return self._grid

    def _meet(self, fleet: FleetGrid, nodes: Sequence[int]) -> list[int]:
        met = self.roster.meet(nodes, self._number, self._sizes, fleet.exchange)
        self._notices.of_members([self.roster.member(node) for node in met])
        return met

    def _begin(self, number: int, arrays: ArrayRecord, grid: Grid) -> FleetGrid:
        """Notes the round, and hears what has come meanwhile."""
        self._number = number
        self._sizes = sizes_of(arrays, self.allocator.menu, self._wire.downlink_bits)
        fleet = self._fleet(grid)
        self._hear_late()
        return fleet

    def _await_nodes(self, fleet: FleetGrid) -> None:
        """Before anybody was met, waits for as many nodes as the inner strategy does.

        Whoever is there then is asked at once, so that numbers go by names.
        """
        least = number_of(self.inner, "min_available_nodes", _LEAST_NODES)
        end = time.monotonic() + self._patience
        while not self.roster.has_met and time.monotonic() < end:
            if len(list(fleet.inner.get_node_ids())) >= least:
                return
            time.sleep(_POLL_SECONDS)

    def _learn(
        self, opened: OpenRound, answers: Sequence[Answer], accuracy: ServerAccuracy | None
    ) -> None:
        """Tells the allocator what came of its plan, and what clients cannot do."""
        outcomes = [accounts.outcome(a, opened.sizes, self.allocator) for a in answers]
        self.allocator.observe([o for o in outcomes if o is not None], accuracy)
        for answer in answers:
            result, member = answer.result, answer.task.member
            if isinstance(result, Refused) and result.cannot and member.profile is not None:
                self._forbid(answer, member)

    def _forbid(self, answer: Answer, member: Member) -> None:
        try:
            self.allocator.forbid(member.client, answer.task.strategy)
        except ValueError as error:  # nothing is left that it could do
            self.roster.retire(answer.task.message.metadata.dst_node_id, str(error))

    def _hear_late(self) -> None:
        """Replies to earlier rounds: profiles count, models are recorded and dropped."""
        late = [] if self._grid is None else self._grid.take_late()
        if not late:
            return
        assert self._grid is not None
        nodes = list(self._grid.inner.get_node_ids())
        self.roster.hear([one.message for one in late], nodes, self._number, self._sizes)
        self._late_lines += self._arrivals.late_lines(late, self._number)

    def _record(
        self,
        opened: OpenRound,
        answers: Sequence[Answer],
        strays: Sequence[ClientRecord],
        seconds: float,
        server_seconds: float,
    ) -> None:
        loss_key = setting_of(self.inner, "train_loss_key") or "train_loss"
        number, allocator = opened.number, self.allocator
        lines = [a.record(number, accounts.joules(a, allocator), loss_key) for a in answers]
        lines += [accounts.idle_record(number, *idle) for idle in opened.idle]
        late, self._late_lines = self._late_lines, []
        lines += [*strays, *late]
        total = self.ledger.seconds + opened.plan_seconds + seconds + server_seconds
        record = accounts.round_record(opened, lines, answers, seconds, total)
        wall = accounts.wall_record(opened, answers, seconds, server_seconds)
        self.ledger.append(record, lines, wall)
        self._notices.of_round(record, lines, len(opened.tasks))
