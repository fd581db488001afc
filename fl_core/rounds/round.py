"""A round: gather, plan, train, send, aggregate; on a virtual clock, with all that can go wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...allocator.arrays import FloatArray, IntArray
from ...allocator.errors import FedHQError, WireError
from ...allocator.goal import Outcome
from ...allocator.solution import Allocation
from ..engine.work import Engine, Trained, Work
from ..federation import Federation
from ..planner import Planner
from ..records.records import ClientRecord
from ..server.server import Server
from ..wire.downlink import Broadcast, broadcast
from ..wire.pending import Pending
from .cohort import sample_cohort, wanted_clients
from .delivery import deliver
from .timeline import Timeline, bottleneck, close_round, draw_fate
from .uplink import Channel, Uplink
from .visit import Visit

_BUNCH_BYTES = 1 << 22


@dataclass(frozen=True)
class RoundResult:
    """What a round gave.

    Args:
        waiting_seconds: Simulated time before anybody could be asked.
        seconds: Simulated time from then until the round closed.
        clients: Their records, those of the cohort first.
        outcomes: What the planner is to observe.
        planned_loss: Loss that the allocation predicts.
        bottleneck: Client with which the round closed; None where it was the deadline.
        usable: Updates that the server could use, whether the weights moved or not.
        diverged: Updates that could not be sent, as they were not finite.
        wall: Seconds of this machine: planning, training, server.
        client_wall_seconds: `(cohort,)` seconds of this machine for each client's training.
    """

    waiting_seconds: float
    seconds: float
    clients: tuple[ClientRecord, ...]
    outcomes: tuple[Outcome, ...]
    planned_loss: float
    bottleneck: int | None
    usable: int
    diverged: int
    wall: tuple[float, float, float]
    client_wall_seconds: tuple[float, ...]


class RoundRunner:
    """Runs the rounds of a federation; it holds what is on its way from one to the next.

    Args:
        federation: Data, clients, devices.
        planner: Who decides.
        server: Holds the weights.
        uplink: The clients' side of the wire.
        channel: What becomes of payloads on the way.
    """

    def __init__(
        self,
        federation: Federation,
        planner: Planner,
        server: Server,
        uplink: Uplink,
        channel: Channel,
    ) -> None:
        self._federation = federation
        self._settings = federation.participation
        self._planner = planner
        self._server = server
        self._uplink = uplink
        self._channel = channel
        self.pending: list[Pending] = []
        """Updates that are still on their way."""

    def run(self, number: int, now: float, rate: float, engine: Engine) -> RoundResult:
        """Runs one round; its outcomes are for the caller to tell the planner.

        Args:
            number: Of the round.
            now: Simulated time at which it may begin.
            rate: Learning rate of its clients.
            engine: Trains them.

        Raises:
            InfeasibleError: If the planner's limits cannot be kept.
            FedHQError: If no client will ever be online.
        """
        marks = [time.perf_counter()]
        start, ready = self._gather(now)
        cohort = self._sample(number, start, ready)
        allocation = self._planner.plan(number, [int(c) for c in cohort])
        online = self._federation.fleet.online_seconds(cohort, start).tolist()
        visits = [
            self._visit(number, allocation, place, int(client), online[place])
            for place, client in enumerate(cohort)
        ]
        timeline = self._close(visits)
        marks.append(time.perf_counter())

        federation = self._federation
        model = broadcast(
            self._server.weights, federation.training.downlink_bits, number, federation.seed
        )
        sending = self._train(number, rate, model, visits, timeline, engine)
        marks.append(time.perf_counter())

        delivery = deliver(number, start, visits, timeline, self.pending, self._server, federation)
        self.pending = delivery.pending
        here = [visit.record(number, model.num_bytes) for visit in visits]
        marks.append(time.perf_counter())
        planning, training, serving = np.diff(marks)
        return RoundResult(
            waiting_seconds=start - now,
            seconds=timeline.seconds,
            clients=(*here, *delivery.stale),
            outcomes=tuple(visit.outcome(timeline.seconds) for visit in visits),
            planned_loss=allocation.loss,
            bottleneck=bottleneck(timeline),
            usable=delivery.usable,
            diverged=sum(visit.diverged for visit in visits),
            wall=(float(planning), float(training) - sending, float(serving) + sending),
            client_wall_seconds=tuple(visit.wall_seconds for visit in visits),
        )

    def _gather(self, now: float) -> tuple[float, IntArray]:
        """When somebody can be asked, and who then can: nobody without an example ever is."""
        fleet = self._federation.fleet
        while True:
            busy = {p.client: p.arrives_at for p in self.pending if p.arrives_at > now}
            free = self._federation.num_examples > 0
            free[list(busy)] = False
            ready = np.flatnonzero(free & fleet.available(now))
            if len(ready):
                return now, ready
            back = min(busy.values(), default=np.inf)
            then = min(back, fleet.next_available(now, np.flatnonzero(free)))
            if not np.isfinite(then):
                raise FedHQError(
                    f"`some client will be online` must hold, but none is after {now:g} simulated "
                    "seconds. Let windows of availability repeat, or train fewer rounds."
                )
            now = then

    def _sample(self, number: int, start: float, ready: IntArray) -> IntArray:
        federation, weights = self._federation, None
        if self._settings.sampling == "examples":
            weights = federation.num_examples[ready].astype(float)
        elif self._settings.sampling == "availability":
            weights = self._online_seconds(start, ready)
        num_clients = len(federation.clients)
        return sample_cohort(self._settings, number, federation.seed, ready, weights, num_clients)

    def _online_seconds(self, start: float, clients: IntArray) -> FloatArray:
        """`(clients,)` how long each stays online; of those that always are, the longest."""
        seconds = self._federation.fleet.online_seconds(clients, start)
        known = seconds[np.isfinite(seconds)]
        return np.where(np.isfinite(seconds), seconds, known.max(initial=1.0))

    def _visit(
        self, number: int, allocation: Allocation, place: int, client: int, online: float
    ) -> Visit:
        federation = self._federation
        strategy, column = allocation.strategy(place), int(allocation.choice[place])
        seconds = float(federation.hardware.seconds[client, column])
        joules = federation.hardware.energy_joules
        fate = draw_fate(self._settings, federation.seed, number, client, seconds, online)
        return Visit(
            client=client,
            strategy=strategy,
            num_examples=int(federation.num_examples[client]),
            planned_seconds=seconds,
            joules=math.nan if joules is None else float(joules[client, column]),
            fate=None if strategy.is_skip else fate,
        )

    def _close(self, visits: Sequence[Visit]) -> Timeline:
        fates = {visit.client: visit.fate for visit in visits if visit.fate is not None}
        wanted = wanted_clients(self._settings, len(self._federation.clients))
        return close_round(fates, wanted, self._settings.deadline_seconds)

    def _train(
        self,
        number: int,
        rate: float,
        model: Broadcast,
        visits: Sequence[Visit],
        timeline: Timeline,
        engine: Engine,
    ) -> float:
        """Trains those whose update can count, and sends; returns the seconds of sending."""
        keeps_late = self._federation.server.max_staleness > 0
        works, by_client = [], {}
        for visit in visits:
            if visit.fate is None:
                continue
            if not visit.fate.arrives:
                visit.end("dropped", f"its connection was lost after {visit.fate.seconds:.3g} s")
            elif timeline.is_late(visit.client) and not keeps_late:
                visit.end("late", f"the round closed after {timeline.seconds:.3g} s")
            else:
                works.append(Work(number, visit.client, visit.strategy, rate))
                by_client[visit.client] = visit
        sending = 0.0
        for bunch in _bunches(engine.train(model.weights, works)):
            start = time.perf_counter()
            for trained in bunch:
                self._send(number, by_client[trained.work.client], trained)
            sending += time.perf_counter() - start
        return sending

    def _send(self, number: int, visit: Visit, trained: Trained) -> None:
        visit.wall_seconds = trained.wall_seconds
        if trained.update is None:
            visit.end("failed", trained.error)
            return
        visit.train_loss = trained.train_loss if np.isfinite(trained.train_loss or 0) else None
        try:
            payload = self._uplink.send(
                number, visit.client, visit.strategy.wire_bits, trained.update, visit.num_examples
            )
        except WireError as error:
            visit.end("failed", str(error))
            visit.diverged = True
            return
        visit.uplink_bytes = len(payload)
        visit.payloads = list(self._channel(number, visit.client, payload))
        visit.end("dropped", "nothing of it arrived")  # until it does


def _bunches(answers: Iterator[Trained]) -> Iterator[list[Trained]]:
    """Answers by a few megabytes: sent one right after the other, they take half the time."""
    bunch: list[Trained] = []
    num_bytes = 0
    for trained in answers:
        bunch.append(trained)
        num_bytes += sum(values.nbytes for values in (trained.update or {}).values())
        if num_bytes >= _BUNCH_BYTES:
            yield bunch
            bunch, num_bytes = [], 0
    yield bunch
