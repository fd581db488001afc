"""Clients of Flower's legacy API, seen as a grid: asked for profiles, sampled in a stable order."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue

from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common import (
    DisconnectRes,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    ReconnectIns,
    Scalar,
)
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.criterion import Criterion
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from ....allocator.errors import WireError
from ..messages.orders import RECORD, as_text, read_text
from ..messages.profile import ClientProfile

_MOST_QUESTIONS_AT_ONCE = 64
_LEGACY = "`{0}` belongs to the message API, but this run is of the legacy one."


def set_message_id(message: Message, name: str) -> None:
    """Gives a message an id, as Flower's own grids do."""
    message.metadata.__dict__["_message_id"] = name


class ProxyGrid(Grid):
    """Clients of a manager as nodes of a grid, for questions alone: their answers are profiles.

    Training goes its legacy way, by `ClientProxy.fit`.

    Args:
        manager: Flower's.
        patience_seconds: How long a client has to answer.
    """

    def __init__(self, manager: ClientManager, patience_seconds: float) -> None:
        self.manager = manager
        self._patience = patience_seconds
        self._questions: SimpleQueue[Message] = SimpleQueue()
        self._answers: dict[str, Message] = {}
        self._numbers = itertools.count()
        self._threads = 0

    @property
    def proxies(self) -> dict[int, ClientProxy]:
        """Who is connected, by node."""
        return {proxy.node_id: proxy for proxy in [*self.manager.all().values()]}

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected."""
        return [*self.proxies]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Asks; returns at once."""
        names = []
        for message in messages:
            names.append(f"question-{next(self._numbers)}")
            set_message_id(message, names[-1])
            self._questions.put(message)
            if self._threads < _MOST_QUESTIONS_AT_ONCE:
                self._threads += 1
                # A daemon: nobody waits at the end for a client that never answers.
                threading.Thread(target=self._work, daemon=True).start()
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """What has been answered."""
        return [self._answers.pop(name) for name in message_ids if name in self._answers]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Is not asked of this grid."""
        raise NotImplementedError(_LEGACY.format("send_and_receive"))

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Is not asked of this grid."""
        raise NotImplementedError(_LEGACY.format("get_nodes"))

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Is not asked of this grid."""
        raise NotImplementedError(_LEGACY.format("create_message"))

    def set_run(self, run: Run) -> None:
        """Is not asked of this grid."""
        raise NotImplementedError(_LEGACY.format("set_run"))

    @property
    def run(self) -> Run:
        """Is not asked of this grid."""
        raise NotImplementedError(_LEGACY.format("run"))

    def _work(self) -> None:
        while True:
            question = self._questions.get()
            self._answers[question.metadata.message_id] = self._ask(question)

    def _ask(self, message: Message) -> Message:
        """The answer to a question, or the error that became of it."""
        try:
            proxy = self.proxies[message.metadata.dst_node_id]
            question = as_text(message.content.config_records[RECORD])
            config: dict[str, Scalar] = {RECORD: question}
            told = proxy.get_properties(GetPropertiesIns(config), self._patience, None)
            answer = read_text(told.properties.get(RECORD), "a client's profile")
            profile = ClientProfile.from_record(answer)
        except KeyError:
            error = Error(ErrorCode.NODE_UNAVAILABLE, "the client has gone")
            return Message(error, reply_to=message)
        except WireError as wrong:
            reason = f"`get_properties` must give `ClientProfile.to_properties()`: {wrong}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        except Exception as wrong:  # whatever a client or the way to it raises
            error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(wrong))
            return Message(error, reply_to=message)
        record = ConfigRecord(dict(profile.to_record()))
        return Message(RecordDict({RECORD: record}), reply_to=message)


class OrderedManager(ClientManager):
    """Samples clients in the order of a grid, so that the same seed draws the same ones.

    Args:
        proxies: The grid of the manager's clients.
        ordered: Brings their nodes in order.
    """

    def __init__(self, proxies: ProxyGrid, ordered: Callable[[], Iterable[int]]) -> None:
        self._proxies = proxies
        self._ordered = ordered

    def num_available(self) -> int:
        """As Flower's."""
        return self._proxies.manager.num_available()

    def register(self, client: ClientProxy) -> bool:
        """As Flower's."""
        return self._proxies.manager.register(client)

    def unregister(self, client: ClientProxy) -> None:
        """As Flower's."""
        self._proxies.manager.unregister(client)

    def all(self) -> dict[str, ClientProxy]:
        """All that are connected, in order."""
        proxies = self._proxies.proxies
        found = [proxies[node] for node in self._ordered() if node in proxies]
        return {proxy.cid: proxy for proxy in found}

    def wait_for(self, num_clients: int, timeout: int = 86400) -> bool:
        """As Flower's."""
        return self._proxies.manager.wait_for(num_clients, timeout)

    def sample(
        self,
        num_clients: int,
        min_num_clients: int | None = None,
        criterion: Criterion | None = None,
    ) -> list[ClientProxy]:
        """As Flower's; none where there are too few."""
        self.wait_for(num_clients if min_num_clients is None else min_num_clients)
        found = [p for p in self.all().values() if criterion is None or criterion.select(p)]
        return random.sample(found, num_clients) if num_clients <= len(found) else []


class NotingProxy(ClientProxy):
    """A client whose failures to train are noted: Flower's legacy server forgets whose they are.

    Args:
        inner: Flower's.
        failed: From nodes to what was raised.
    """

    def __init__(self, inner: ClientProxy, failed: dict[int, Exception]) -> None:
        super().__init__(inner.cid)
        self.inner, self.node_id, self.properties = inner, inner.node_id, inner.properties
        self._failed = failed

    def fit(self, ins: FitIns, timeout: float | None, group_id: int | None) -> FitRes:
        """As Flower's."""
        try:
            return self.inner.fit(ins, timeout, group_id)
        except Exception as error:
            self._failed[self.node_id] = error
            raise

    def get_properties(
        self, ins: GetPropertiesIns, timeout: float | None, group_id: int | None
    ) -> GetPropertiesRes:
        """As Flower's."""
        return self.inner.get_properties(ins, timeout, group_id)

    def get_parameters(
        self, ins: GetParametersIns, timeout: float | None, group_id: int | None
    ) -> GetParametersRes:
        """As Flower's."""
        return self.inner.get_parameters(ins, timeout, group_id)

    def evaluate(
        self, ins: EvaluateIns, timeout: float | None, group_id: int | None
    ) -> EvaluateRes:
        """As Flower's."""
        return self.inner.evaluate(ins, timeout, group_id)

    def reconnect(
        self, ins: ReconnectIns, timeout: float | None, group_id: int | None
    ) -> DisconnectRes:
        """As Flower's."""
        return self.inner.reconnect(ins, timeout, group_id)
