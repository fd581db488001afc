"""A grid without processes: nodes answer at once, later, never or wrongly; messages are real."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy

from fedhq.allocator import HybridAllocator
from fedhq.fl_core.flower.messages.orders import QUERY, RECORD, Decision, Report
from fedhq.fl_core.flower.messages.packing import pack_update, unpack_model
from fedhq.fl_core.flower.messages.profile import ClientProfile
from fedhq.fl_core.flower.server.strategy import AllocatorStrategy

MENU = ("ptq-w2a2", "qat-w2a2")
MODEL = {
    "a": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "steps": np.array(3),
    "b": np.zeros(5, np.float32),
}

Reply = Message | None
Spoil = Callable[[Message, "Node"], "Reply | list[Message]"]


def arrays_of(values: dict[str, np.ndarray] | None = None) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(v)) for name, v in (values or MODEL).items()})


def values_of(arrays: ArrayRecord) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in arrays.items()}


@dataclass
class Node:
    """A client that adds `step` to every weight.

    Args:
        profile: What it tells; None of a plain one, whose app has no query function.
        step: What it adds.
        num_examples: What it says of its data.
        spoil: Makes of a message whatever shall be answered to it; None answers as one should.
        silent: Whether its answers wait until the grid releases them.
    """

    profile: ClientProfile | None = None
    step: float = 1.0
    num_examples: int = 10
    spoil: Spoil | None = None
    silent: bool = False
    arrays_key: str = "arrays"
    examples_key: str = "num-examples"
    seen: list[Message] = field(default_factory=list)

    def answer(self, message: Message) -> Reply | list[Message]:
        self.seen.append(message)
        if message.metadata.message_type == QUERY:
            return self.tell(message)
        return self.spoil(message, self) if self.spoil else self.train(message)

    def tell(self, message: Message) -> Message:
        if self.profile is None:
            return Message(Error(2, "No query function registered"), reply_to=message)
        record = ConfigRecord(dict(self.profile.to_record()))
        return Message(RecordDict({RECORD: record}), reply_to=message)

    def train(self, message: Message, step: float | None = None) -> Message:
        by = self.step if step is None else step
        record = message.content.config_records.get(RECORD)
        metrics = MetricRecord({self.examples_key: self.num_examples, "train_loss": 0.5})
        if record is None:
            moved = self.moved(message.content.array_records[self.arrays_key], by)
            return Message(
                RecordDict({self.arrays_key: moved, "metrics": metrics}), reply_to=message
            )
        decision = Decision.from_record(record)
        received = unpack_model(message.content.array_records[self.arrays_key], decision)
        update, _ = pack_update(
            received, self.moved(received, by), decision, self.num_examples, None
        )
        report = ConfigRecord(dict(Report(0.25).to_record()))
        content = RecordDict({self.arrays_key: update, "metrics": metrics, RECORD: report})
        return Message(content, reply_to=message)

    def moved(self, arrays: ArrayRecord, by: float) -> ArrayRecord:
        return arrays_of(
            {
                name: v + np.float32(by) if v.dtype == np.float32 else v + 1
                for name, v in values_of(arrays).items()
            }
        )


class FakeGrid(Grid):
    """Hands messages to nodes at once; whoever pulls gets what they answered, in any order."""

    def __init__(self, nodes: dict[int, Node], seed: int = 0) -> None:
        self.nodes = nodes
        self.pushes: list[list[Message]] = []
        self._shuffle = random.Random(seed)
        self._numbers = itertools.count()
        self._box: dict[str, list[Message]] = {}
        self._held: dict[str, list[Message]] = {}

    def set_run(self, run: object) -> None: ...

    @property
    def run(self) -> object:
        return None

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return self._shuffle.sample(sorted(self.nodes), len(self.nodes))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = list(messages)
        self.pushes.append(sent)
        for message in sent:
            name = f"m{next(self._numbers)}"
            message.metadata.__dict__["_message_id"] = name
            node = self.nodes.get(message.metadata.dst_node_id)
            if node is None:
                self._box[name] = [Message(Error(5, "Node unavailable"), reply_to=message)]
                self._box[name][0].metadata.__dict__["_src_node_id"] = 1
                continue
            found = node.answer(message)
            replies = found if isinstance(found, list) else [found] if found else []
            for reply in replies:
                reply.metadata.__dict__["_message_id"] = f"r{next(self._numbers)}"
            (self._held if node.silent else self._box)[name] = replies
        return [message.metadata.message_id for message in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = [reply for name in sorted(message_ids) for reply in self._box.pop(name, [])]
        self._shuffle.shuffle(found)
        return found

    def release(self) -> None:
        """Lets what is held arrive."""
        self._box |= self._held
        self._held = {}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def trained(self) -> list[Message]:
        """All messages of the last round of training."""
        return [p for p in self.pushes if p and p[0].metadata.message_type == "train"][-1]


def profiled(names: Sequence[str], **about: object) -> list[ClientProfile]:
    return [ClientProfile(name, num_examples=10, **about) for name in names]


def fleet(count: int = 4, ids: Sequence[int] | None = None, **about: object) -> dict[int, Node]:
    """Clients "0", "1", ... that add 1, 2, ...; by default of odd node numbers."""
    numbers = ids or [9_000 - 37 * k for k in range(count)]
    return {
        number: Node(profile, step=k + 1.0, **about)
        for k, (number, profile) in enumerate(
            zip(numbers, profiled([str(k) for k in range(count)]), strict=True)
        )
    }


class Spy(FedAvg):
    """Remembers what reaches it."""

    def __init__(self, **about: object) -> None:
        super().__init__(**{"min_available_nodes": 1, "fraction_evaluate": 0.0, **about})
        self.handed: list[list[Message]] = []

    def aggregate_train(self, server_round: int, replies: Iterable[Message]):
        self.handed.append(list(replies))
        return super().aggregate_train(server_round, self.handed[-1])


def all_around(inner: Strategy, menu: Sequence[str] = MENU, **about: object) -> AllocatorStrategy:
    allocator = HybridAllocator.open(menu, menu[-1], learn=False)
    return AllocatorStrategy(inner, allocator, profile_seconds=0.2, **about)


def play(
    strategy: AllocatorStrategy,
    grid: FakeGrid,
    rounds: int = 1,
    arrays: ArrayRecord | None = None,
    timeout: float = 0.2,
):
    """Runs a strategy, in the grid's own time."""
    return strategy.start(grid, arrays or arrays_of(), num_rounds=rounds, timeout=timeout)


def clients_of(strategy, number: int) -> list[tuple[int, str]]:
    return [(c.client, c.status) for c in strategy.ledger.clients if c.round == number]


class Rounds:
    """A run that is looked at, and meddled with, before each round."""

    def __init__(self, strategy, grid: FakeGrid) -> None:
        self.strategy, self.grid, self.arrays = strategy, grid, arrays_of()
        self.fleet = strategy._fleet(grid)
        self.number = 0

    def next(self, timeout: float = 0.05) -> list[tuple[int, str]]:
        self.number += 1
        asked = self.strategy.configure_train(self.number, self.arrays, ConfigRecord(), self.fleet)
        replies = self.fleet.send_and_receive(asked, timeout=timeout)
        new, _ = self.strategy.aggregate_train(self.number, replies)
        self.arrays = new or self.arrays
        return clients_of(self.strategy, self.number)
