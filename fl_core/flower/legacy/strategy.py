"""`LegacyAllocatorStrategy`: for strategies and clients of Flower's legacy API.

Thin: `AllocatorStrategy` does the work, on messages. Here legacy instructions become messages, and
legacy results replies; in the middle stands the legacy strategy, as one of the message API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common import Code, EvaluateIns, EvaluateRes, FitIns, FitRes, Parameters, Scalar
from flwr.common.constant import ErrorCode
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy as LegacyStrategy
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from ....allocator.controller import HybridAllocator, ServerAccuracy
from ....allocator.errors import WireError
from ...settings import QuantizationSettings
from ...wire.rounding import RAW_BITS
from ..messages.letters import name_arrays
from ..messages.orders import CANNOT
from ..server.inner import check_inner, seeded
from ..server.strategy import AllocatorStrategy
from .clients import NotingProxy, OrderedManager, ProxyGrid, set_message_id
from .letters import (
    CONFIG,
    EXAMPLES,
    MODEL,
    to_arrays,
    to_content,
    to_fit_ins,
    to_fit_res,
    to_parameters,
)

Fits = list[tuple[ClientProxy, FitRes]]
Failures = list[tuple[ClientProxy, FitRes] | BaseException]

_EVALUATE = 1
_LEAST_CLIENTS = 2


class LegacyAllocatorStrategy(LegacyStrategy):
    """A legacy strategy of Flower, with hybrid allocation and quantized updates.

    Clients are `ClientApp(client_fn, mods=[quant_mod])`. Their `get_properties` gives
    `ClientProfile.to_properties()`, or they are plain; their `fit` trains inside
    `allocated(model, config)`. All else is as with `AllocatorStrategy`, whose ledger and roster are
    `allocation.ledger` and `allocation.roster`; rounds have the server's time limit.

    Under `SecAggPlusWorkflow` a client refuses what is to be rounded, since nobody could decode the
    sum; strategies that end in -u32 work. The server cannot see the workflow, so this shows when
    the first clients refuse.

    Args:
        inner: A strategy of `flwr.server.strategy`.
        allocator: Of a fleet that nobody knows yet: `HybridAllocator.open`.
        tensor_names: Names of the parameters, as in a torch state dict: those of running statistics
            are then not rounded. All floats are where None.
        folder: As in `AllocatorStrategy`, like the arguments below.
        downlink_bits: Bits per element of the model that clients receive.
        quantization: How QAT quantizes.
        seed: Root of all randomness.
        profile_seconds: How long a client has to tell its profile.
        measure: As in `AllocatorStrategy`; it gets the arrays by the names of the parameters.

    Raises:
        ValueError: As `AllocatorStrategy`.
        CheckpointError: If the folder holds a run.

    Example:
        >>> from flwr.server.strategy import FedAvg
        >>> allocator = HybridAllocator.open(["ptq-w2a2", "qat-w2a2"], "qat-w2a2")
        >>> LegacyAllocatorStrategy(FedAvg(fraction_fit=0.5), allocator).fraction_fit
        0.5
    """

    def __init__(
        self,
        inner: LegacyStrategy,
        allocator: HybridAllocator,
        *,
        tensor_names: Sequence[str] | None = None,
        folder: Path | str | None = None,
        downlink_bits: int = RAW_BITS,
        quantization: QuantizationSettings | None = None,
        seed: int = 0,
        profile_seconds: float = 60.0,
        measure: Callable[[ArrayRecord], ServerAccuracy | None] | None = None,
    ) -> None:
        check_inner(inner, LegacyStrategy, LegacyAllocatorStrategy, "AllocatorStrategy")
        self.inner = inner
        self._within = _AsStrategy(inner)
        self.allocation = AllocatorStrategy(
            self._within,
            allocator,
            folder=folder,
            downlink_bits=downlink_bits,
            quantization=quantization,
            seed=seed,
            profile_seconds=profile_seconds,
            measure=measure,
        )
        self._tensor_names = tensor_names
        self._seed = seed
        self._patience = profile_seconds
        self._grid: ProxyGrid | None = None
        self._failed: dict[int, Exception] = {}
        self._sent: dict[int, Message] = {}
        self._model = ArrayRecord()

    def __getattr__(self, name: str) -> Any:
        """What only the inner strategy has."""
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """The inner strategy's."""
        return self.inner.initialize_parameters(client_manager)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Has the inner strategy sample, plans, and writes each client its own instructions.

        Raises:
            ValueError: If the names are not of these parameters; and as `AllocatorStrategy`.
            WireError: If the parameters are no NumPy arrays.
        """
        grid = self._proxies(client_manager)
        self._model = to_arrays(parameters, self._tensor_names)
        self._within.begin(parameters, self._model, grid)
        messages = self.allocation.configure_train(server_round, self._model, ConfigRecord(), grid)
        self._sent = {message.metadata.dst_node_id: message for message in messages}
        self._failed = {}
        proxies = grid.proxies
        pairs: list[tuple[ClientProxy, FitIns]] = []
        for node, message in self._sent.items():
            set_message_id(message, f"fit-{server_round}-{node}")
            if node in proxies:
                pairs.append((NotingProxy(proxies[node], self._failed), to_fit_ins(message)))
        return pairs

    def aggregate_fit(
        self, server_round: int, results: Fits, failures: Failures
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Checks and unpacks what came, hands it on, and records all of it."""
        self._within.failures = failures
        replies = [self._reply(proxy, result) for proxy, result in results]
        replies += [self._reply(*one) for one in failures if isinstance(one, tuple)]
        known = [reply for reply in replies if reply is not None]
        known += self._errors(known, [one for one in failures if not isinstance(one, tuple)])
        arrays, _ = self.allocation.aggregate_train(server_round, known)
        return None if arrays is None else to_parameters(arrays), self._within.metrics

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """The inner strategy's, sampled from clients in order; the model is sent as it is."""
        grid = self._proxies(client_manager)
        ordered = OrderedManager(grid, lambda: self.allocation.roster.ordered(grid.proxies))
        with seeded(self._seed, server_round, _EVALUATE):
            return self.inner.configure_evaluate(server_round, parameters, ordered)

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        """The inner strategy's."""
        return self.inner.aggregate_evaluate(server_round, results, failures)

    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Scalar]] | None:
        """The inner strategy's."""
        return self.inner.evaluate(server_round, parameters)

    def _proxies(self, manager: ClientManager) -> ProxyGrid:
        """The manager's clients as a grid, always the same."""
        if self._grid is None or self._grid.manager is not manager:
            self._grid = ProxyGrid(manager, self._patience)
        return self._grid

    def _errors(self, replies: Sequence[Message], raised: Sequence[object]) -> list[Message]:
        """What failed, as replies: whose it is was noted, or is guessed if nobody else can be."""
        noted = {id(error) for error in self._failed.values()}
        unknown = [_reason(error) for error in raised if id(error) not in noted]
        reasons = {node: _reason(error) for node, error in self._failed.items()}
        silent = self._sent.keys() - {m.metadata.src_node_id for m in replies} - reasons.keys()
        if unknown:
            first = unknown[0]
            if len(unknown) > 1 or len(silent) > 1:
                # A client that cannot is known only where no other can be meant.
                first = f"one of {len(unknown)} failures: {first.replace(CANNOT, 'fedhq')}"
            reasons |= dict.fromkeys(silent, first)
        code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
        return [
            Message(Error(code, reason), reply_to=self._sent[node])
            for node, reason in reasons.items()
            if node in self._sent
        ]

    def _reply(self, proxy: ClientProxy, result: FitRes) -> Message | None:
        """A result as a reply; None if nobody asked for it."""
        message = self._sent.get(proxy.node_id)
        if message is None:
            return None
        if result.status.code is not Code.OK:
            error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, result.status.message)
            return Message(error, reply_to=message)
        try:
            return Message(to_content(result, message, self._model), reply_to=message)
        except WireError as wrong:
            error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(wrong))
            return Message(error, reply_to=message)


def _reason(error: object) -> str:
    """The text of an error; Flower's workflows wrap one of their own in an exception."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    return str(inner.reason) if isinstance(inner, Error) else str(error)


class _AsStrategy(Strategy):
    """The legacy strategy as one of the message API."""

    weighted_by_key = EXAMPLES

    def __init__(self, inner: LegacyStrategy) -> None:
        self._inner = inner
        self.min_available_nodes = int(getattr(inner, "min_available_clients", _LEAST_CLIENTS))
        self.failures: Failures = []
        self.metrics: dict[str, Scalar] = {}

    def begin(self, parameters: Parameters, arrays: ArrayRecord, proxies: ProxyGrid) -> None:
        """Notes the model of a round, as both APIs see it."""
        self._parameters, self._arrays, self._proxies = parameters, arrays, proxies
        self.failures, self.metrics = [], {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """What the legacy strategy instructs."""
        manager = OrderedManager(self._proxies, grid.get_node_ids)
        pairs = self._inner.configure_fit(server_round, self._parameters, manager)
        for proxy, ins in pairs:
            if ins.parameters.tensors != self._parameters.tensors:
                raise ValueError(
                    "`a strategy sends all clients the model` must hold, but "
                    f"{type(self._inner).__name__} sends client {proxy.cid} one of its own."
                )
        return [
            Message(
                RecordDict({MODEL: arrays, CONFIG: ConfigRecord(dict(ins.config))}),
                dst_node_id=proxy.node_id,
                message_type="train",
            )
            for proxy, ins in pairs
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the legacy strategy makes of sound replies."""
        proxies = self._proxies.proxies
        results = []
        for reply in replies:
            proxy = proxies.get(reply.metadata.src_node_id)
            if proxy is not None:
                results.append((proxy, to_fit_res(reply.content)))
        parameters, self.metrics = self._inner.aggregate_fit(server_round, results, self.failures)
        if parameters is None:
            return None, None
        arrays = to_arrays(parameters, None)
        return name_arrays(arrays, [*self._arrays]), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Goes its legacy way."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Goes its legacy way."""
        return None

    def summary(self) -> None:
        """Legacy strategies have none."""
