"""Trains clients in processes of their own, as many groups at a time as there are workers."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch.multiprocessing  # noqa: F401 - tensors go to workers through shared memory

from ...allocator.errors import FedHQError
from ..processes import forking_context
from ..weights import Weights, read_weights
from .parcel import Parcel
from .serial import SerialEngine
from .shared import SharedWeights
from .work import Setup, Trained, Work, make_groups
from .worker import MOST_BYTES, Desk, read_answer, work_until_told, write_order

_Group = tuple[Work, ...]
_TRIES = 2
_END_SECONDS = 5.0
_FIRST_WORDS = (
    'Guard the start of your program with `if __name__ == "__main__":`, and define model and data '
    "at the top level of a module: workers import it."
)
_FEWER = "Take fewer workers, free memory, or allow more processes and open files."


@dataclass(eq=False)
class _Seat:
    """A worker, and what it is at."""

    process: BaseProcess
    pipe: Connection
    updates: SharedWeights
    is_ready: bool = False  # has it greeted?
    group: _Group | None = None
    since: float = 0.0


class WorkerPool:
    """Persistent processes, each with one resident model per kind of training.

    They start once and read weights from shared memory; what goes through a pipe is a line of JSON
    per client. A client whose worker dies is trained again by a new one; if that dies too, the
    client has failed. Results do not depend on the number of workers, nor on who dies. Clients that
    train together are each trained alone once that has failed, so that only the guilty fail: their
    updates then differ from stacked ones in the last bits, and such a run need not repeat another
    to the byte.

    Processes cost memory (about 250 MB each, most of it torch) and one or two seconds to start, and
    pay where training a round takes longer than a few tens of milliseconds. Take as many workers
    as cores, with one thread each: threads within small operators mostly wait for each other. With
    `device="cuda"` every worker opens the GPU by itself, this process does not: several workers are
    as many streams on it. That was never run on a GPU.

    Args:
        setup: Model, data, settings; it is pickled once, and the tensors are in memory once for
            all processes.
        workers: How many.
        patience_seconds: How long a worker that has started may take for one client by this
            machine's clock, until it is ended and the client has failed; so many times as long for
            several together; without end where None. A run in which that happens cannot be repeated
            to the byte.

    Raises:
        ValueError: If a number is too small, or the model does not suit.
        FedHQError: If workers cannot start.
    """

    def __init__(self, setup: Setup, workers: int, patience_seconds: float | None = None) -> None:
        check_pool(workers, patience_seconds)
        SerialEngine(setup)  # checks model and settings here; opens no GPU
        self._setup, self._parcel = setup, _pack(setup)
        self._patience = patience_seconds
        self._shapes = {name: w.shape for name, w in read_weights(setup.model).items()}
        self._weights = SharedWeights(self._shapes)
        self._context = forking_context(f"{__package__}.worker")
        self._failed_starts = 0
        self._workers, self._is_open = workers, True
        self._seats: list[_Seat] = []
        self._fill_seats()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the workers that are alive."""
        return tuple(s.process.pid for s in self._seats if s.process.pid and s.process.is_alive())

    def train(self, weights: Weights, works: Sequence[Work]) -> Iterator[Trained]:
        """Trains all, in the order in which workers become free; see `Engine.train`."""
        if not self._is_open:
            raise FedHQError("`the pool is open` must hold, but it was closed. Make a new one.")
        self._fill_seats()
        self._weights.write(weights)
        # The largest first: at the end nobody waits long for the last.
        sizes = self._setup.clients.num_examples
        groups = make_groups(works, self._setup)
        waiting = deque(sorted(groups, key=lambda group: -sum(sizes[w.client] for w in group)))
        tries: dict[_Group, int] = {}
        try:
            while waiting or any(seat.group for seat in self._seats):
                self._hand_out(waiting)
                yield from self._collect(waiting, tries)
        finally:
            self._drop_unfinished()

    def close(self) -> None:
        """Ends the workers at once; those that wait for orders end when their pipe closes."""
        self._is_open = False
        self._drop_unfinished()
        for seat in self._seats:
            seat.pipe.close()
        for seat in self._seats:
            seat.process.join(_END_SECONDS)
            _end(seat.process)
        self._seats = []

    def _hand_out(self, waiting: deque[_Group]) -> None:
        for seat in self._seats:
            if seat.group is None and waiting:
                seat.group, seat.since = waiting.popleft(), time.monotonic()
                try:
                    seat.pipe.send_bytes(write_order(seat.group))
                except OSError:
                    pass  # it has died: `_collect` sees to it

    def _collect(self, waiting: deque[_Group], tries: dict[_Group, int]) -> Iterator[Trained]:
        """Waits until at least one worker has said something, died or used up its patience."""
        busy = {seat.pipe: seat for seat in self._seats if seat.group is not None}
        ready = wait(list(busy), self._seconds_left(busy.values()))
        for pipe in ready:
            seat = busy[pipe]  # type: ignore[index]
            group = seat.group
            assert group is not None
            try:
                answer = seat.pipe.recv_bytes(MOST_BYTES)
            except (EOFError, OSError):
                yield from self._mourn(seat, group, waiting, tries)
                continue
            if not seat.is_ready:
                seat.is_ready, seat.since, self._failed_starts = True, time.monotonic(), 0
                continue
            seat.group = None
            yield from read_answer(group, answer, seat.updates)
        for seat in busy.values():
            if seat.pipe not in ready and self._seconds_left([seat]) == 0 and seat.group:
                patience = self._patience_with(seat)
                yield from self._give_up(seat, waiting, f"no answer in {patience:g} s")

    def _seconds_left(self, seats: Iterable[_Seat]) -> float | None:
        """Until the first of them has used up its patience; None without end."""
        until = [seat.since + self._patience_with(seat) for seat in seats if seat.is_ready]
        if self._patience is None or not until:
            return None
        return max(0.0, min(until) - time.monotonic())

    def _patience_with(self, seat: _Seat) -> float:
        return (self._patience or 0.0) * len(seat.group or ())

    def _mourn(
        self, seat: _Seat, group: _Group, waiting: deque[_Group], tries: dict[_Group, int]
    ) -> Iterator[Trained]:
        """A worker has died: its clients are trained again, but not for ever."""
        seat.process.join()
        code = seat.process.exitcode or 0
        if seat.is_ready:
            tries[group] = tries.get(group, 0) + 1
        else:
            self._failed_starts += 1
        if self._failed_starts >= _TRIES:
            self.close()
            mend = _FIRST_WORDS if code > 0 else _FEWER  # below 0 the system ended them
            raise FedHQError(
                f"`workers start` must hold, but they end with exit code {code} before their "
                f"first word; what they wrote stands above. {mend}"
            )
        if tries.get(group, 0) >= _TRIES:
            reason = f"its worker died {_TRIES} times (exit code {code})"
            yield from self._give_up(seat, waiting, reason)
            return
        waiting.appendleft(group)
        self._replace(seat)

    def _give_up(self, seat: _Seat, waiting: deque[_Group], reason: str) -> Iterator[Trained]:
        """The client has failed; of several it is not known who: each is trained alone."""
        group = seat.group or ()
        seconds = time.monotonic() - seat.since
        self._replace(seat)
        if len(group) > 1:
            waiting.extendleft((work,) for work in reversed(group))
        else:
            yield from (Trained(work, None, None, seconds, reason) for work in group)

    def _replace(self, seat: _Seat) -> None:
        self._dismiss(seat)
        self._fill_seats()

    def _dismiss(self, seat: _Seat) -> None:
        _end(seat.process)
        seat.pipe.close()
        self._seats.remove(seat)

    def _drop_unfinished(self) -> None:
        """Whoever stops to listen leaves workers busy: their answers must reach nobody else."""
        for seat in [seat for seat in self._seats if seat.group is not None]:
            self._dismiss(seat)

    def _fill_seats(self) -> None:
        """Starts the workers that are missing; all are ended if one cannot start."""
        try:
            while len(self._seats) < self._workers:
                self._seats.append(self._start())
        except BaseException:
            self.close()
            raise

    def _start(self) -> _Seat:
        updates = SharedWeights(self._shapes, self._setup.training.clients_together)
        desk = Desk(self._parcel, self._weights, updates)
        try:
            here, there = self._context.Pipe()
            process = self._context.Process(target=work_until_told, args=(desk, there), daemon=True)
            process.start()
        except (OSError, ValueError) as error:
            raise FedHQError(f"`workers start` must hold, but: {error}. {_FEWER}") from error
        there.close()
        return _Seat(process, here, updates)


def check_pool(workers: int, patience_seconds: float | None) -> None:
    """Refuses numbers of workers or seconds that cannot be.

    Raises:
        ValueError: If `workers` is no whole number above 0, or `patience_seconds` not above 0.

    Example:
        >>> check_pool(2, None)
    """
    if type(workers) is not int or workers < 1:
        raise ValueError(
            f"`workers >= 1` must hold for a whole number, but got {workers!r}. Take 1 to train in "
            "this process, or as many as there are cores."
        )
    if patience_seconds is not None and not patience_seconds > 0:
        raise ValueError(
            f"`patience_seconds > 0` must hold, but got {patience_seconds}. Raise it, or take None "
            "to wait without end."
        )


def _pack(setup: Setup) -> Parcel:
    try:
        return Parcel(setup)
    except (pickle.PicklingError, AttributeError, TypeError, OSError, ValueError) as error:
        raise FedHQError(f"`workers start` must hold, but: {error}. {_FIRST_WORDS}") from error


def _end(process: BaseProcess) -> None:
    if process.is_alive():
        process.kill()
    process.join()
