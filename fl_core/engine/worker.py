"""A worker process: trains the groups of clients that it is told to, one after the other.

Orders and answers are short JSON texts over a pipe; weights and updates lie in shared memory.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from ...allocator.strategy import Strategy
from ..runtime import set_up_worker
from .parcel import Parcel
from .serial import SerialEngine
from .shared import SharedWeights
from .work import Setup, Trained, Work

MOST_BYTES = 1 << 22
"""The longest order or answer."""


@dataclass(frozen=True, eq=False)
class Desk:
    """What a worker and its pool share.

    Args:
        setup: A `Setup`: model, data, settings.
        weights: The server's weights of the round.
        updates: What the worker trained last, a place for each client of a group.
    """

    setup: Parcel
    weights: SharedWeights
    updates: SharedWeights


def work_until_told(desk: Desk, pipe: Connection) -> None:
    """The life of a worker: it ends with its pipe or with its parent, which sees to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setup: Setup = desk.setup.open()
    set_up_worker(setup.training.threads)
    engine = SerialEngine(setup)
    with suppress(EOFError, OSError):  # the pool is closed or gone
        pipe.send_bytes(b"")  # a greeting: it has started
        while True:
            order = read_order(pipe.recv_bytes(MOST_BYTES))
            group = engine.train_group(desk.weights.read(), order)
            for place, trained in enumerate(group):
                if trained.update is not None:
                    desk.updates.write(trained.update, place)
            pipe.send_bytes(write_answer(group))


def write_order(group: Sequence[Work]) -> bytes:
    """Works as JSON.

    Example:
        >>> group = (Work(1, 7, Strategy.parse("qat-w2a2"), 0.1),)
        >>> read_order(write_order(group)) == group
        True
    """
    return json.dumps(
        [[w.round_number, w.client, str(w.strategy), w.learning_rate] for w in group]
    ).encode()


def read_order(order: bytes) -> tuple[Work, ...]:
    """The works of an order."""
    return tuple(
        Work(round_number, client, Strategy.parse(strategy), learning_rate)
        for round_number, client, strategy, learning_rate in json.loads(order)
    )


def write_answer(group: Sequence[Trained]) -> bytes:
    """All of an answer but the updates, as JSON."""
    return json.dumps([[t.train_loss, t.wall_seconds, t.error] for t in group]).encode()


def read_answer(group: Sequence[Work], answer: bytes, updates: SharedWeights) -> Iterator[Trained]:
    """What a worker answered, with the updates copied out of shared memory."""
    values: list[Any] = json.loads(answer)
    for place, (work, value) in enumerate(zip(group, values, strict=True)):
        train_loss, wall_seconds, error = value
        update = None if error else updates.read(place)
        yield Trained(work, update, train_loss, wall_seconds, error)
