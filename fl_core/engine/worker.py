"""A worker process: trains the clients that it is told to, one after the other.

Orders and answers are short JSON texts over a pipe; weights and updates lie in shared memory.
"""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from ...allocator.strategy import Strategy
from ..runtime import set_up_worker
from .serial import SerialEngine
from .shared import SharedWeights
from .work import Setup, Trained, Work

MOST_BYTES = 1 << 16
"""The longest order or answer."""


@dataclass(frozen=True, eq=False)
class Desk:
    """What a worker and its pool share.

    Args:
        setup: Model, data, settings.
        weights: The server's weights of the round.
        update: What the worker trained last.
    """

    setup: Setup
    weights: SharedWeights
    update: SharedWeights


def work_until_told(desk: Desk, pipe: Connection) -> None:
    """The life of a worker: it ends with its pipe or with its parent, which sees to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_worker(desk.setup.training.threads)
    engine = SerialEngine(desk.setup)
    with suppress(EOFError, OSError):  # the pool is closed or gone
        pipe.send_bytes(b"")  # a greeting: it has started
        while True:
            order = read_order(pipe.recv_bytes(MOST_BYTES))
            trained = engine.train_one(desk.weights.read(), order)
            if trained.update is not None:
                desk.update.write(trained.update)
            pipe.send_bytes(write_answer(trained))


def write_order(work: Work) -> bytes:
    """A work as JSON.

    Example:
        >>> work = Work(1, 7, Strategy.parse("qat-w2a2"), 0.1)
        >>> read_order(write_order(work)) == work
        True
    """
    values = [work.round_number, work.client, str(work.strategy), work.learning_rate]
    return json.dumps(values).encode()


def read_order(order: bytes) -> Work:
    """The work of an order."""
    round_number, client, strategy, learning_rate = json.loads(order)
    return Work(round_number, client, Strategy.parse(strategy), learning_rate)


def write_answer(trained: Trained) -> bytes:
    """All of an answer but the update, as JSON."""
    return json.dumps([trained.train_loss, trained.wall_seconds, trained.error]).encode()


def read_answer(work: Work, answer: bytes, update: SharedWeights) -> Trained:
    """What a worker answered, with its update copied out of shared memory."""
    values: list[Any] = json.loads(answer)
    train_loss, wall_seconds, error = values
    return Trained(work, None if error else update.read(), train_loss, wall_seconds, error)
