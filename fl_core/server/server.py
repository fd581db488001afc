"""The server: what arrived in a round becomes new weights, and an account of every arrival."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median
from typing import Any

import numpy as np

from ...allocator.errors import CheckpointError, DivergedError
from ..settings import ServerSettings
from ..weights import Weights
from ..wire.codec import Update
from . import optimizer, weighting
from .aggregate import mean_change
from .inbox import Arrival, ArrivalStatus, Inbox, Opened
from .robust import median_change, trimmed_mean_change


@dataclass(frozen=True)
class Receipt:
    """What became of an arrival.

    Args:
        client: Over whose connection it came.
        status: Ok, or why it was refused.
        detail: The rule that it broke, what was found and the mend; empty if it is ok.
        share: Its share in the combined update; 0 if it was refused.
    """

    client: int
    status: ArrivalStatus
    detail: str
    share: float


@dataclass(frozen=True)
class Applied:
    """What a round's arrivals did.

    Args:
        receipts: One for each arrival, in their order.
        changed: Whether they moved the weights: not if fewer than the quorum are usable, nor if the
            weights of all that are add up to nothing (no examples).
    """

    receipts: tuple[Receipt, ...]
    changed: bool

    @property
    def num_used(self) -> int:
        """Arrivals that were ok."""
        return sum(receipt.status is ArrivalStatus.OK for receipt in self.receipts)


class Server:
    """Holds the weights and applies what clients send.

    The order of arrival changes no bit of the weights.

    Args:
        weights: To start from; arrays are neither copied nor written to.
        settings: How updates are let in, weighed, combined and applied.
        num_examples: `(clients,)` examples that each client is known to hold.

    Example:
        >>> from ..wire.codec import encode_update
        >>> server = Server({"w": np.ones(2, np.float32)}, ServerSettings(), [100, 300])
        >>> payload = encode_update({"w": np.array([1, -1], np.float32)}, wire_bits=4,
        ...     round_number=1, client=1, num_examples=300, rng=np.random.default_rng(0))
        >>> applied = server.apply(1, [Arrival(1, 1, payload), Arrival(0, 1, b"?")])
        >>> [str(receipt.status) for receipt in applied.receipts], server.weights["w"].tolist()
        (['ok', 'malformed'], [2.0, 0.0])
    """

    def __init__(
        self, weights: Weights, settings: ServerSettings, num_examples: Iterable[int]
    ) -> None:
        self._weights = weights
        self._settings = settings
        self._inbox = Inbox(num_examples, settings.max_staleness)
        self._moments = optimizer.start_moments(settings, weights)
        self._round_number = 0

    @property
    def weights(self) -> Weights:
        """The weights as they are now; not to be written to."""
        return self._weights

    def apply(self, round_number: int, arrivals: Sequence[Arrival], quorum: int = 1) -> Applied:
        """Takes in what arrived and moves the weights by what is usable of it.

        Args:
            round_number: The current round, never less than before.
            arrivals: Any bytes; nothing is raised for them.
            quorum: Usable updates without which the weights stay; what was taken is lost then.

        Raises:
            ValueError: If the round lies before an earlier call's.
            DivergedError: If the weights would not stay finite: the server is as it was before.
        """
        if round_number < self._round_number:
            raise ValueError(
                f"`round_number >= {self._round_number}` must hold, but got {round_number}. "
                "Rounds do not go back: load an earlier state."
            )
        opened = self._inbox.open(round_number, arrivals, self._weights)
        let_in = sorted(
            (one.update for one in opened if one.update is not None),
            key=attrgetter("client", "round_number"),
        )
        norms = self._norms(let_in)
        limit = self._norm_limit(norms)
        used = [u for u, norm in zip(let_in, norms, strict=True) if norm <= limit]
        factors = self._factors([norm for norm in norms if norm <= limit])
        shares = self._shares(round_number, used)
        moves = len(used) >= quorum and any(shares)
        if moves:
            self._move(round_number, self._combined(used, shares, factors))
        self._inbox.remember(round_number, let_in)
        self._round_number = round_number
        norm_by_key = dict(zip(map(_key, let_in), norms, strict=True))
        share_by_key = dict(zip(map(_key, used), shares, strict=True))
        return Applied(
            tuple(
                _receipt(arrival, one, norm_by_key, limit, share_by_key)
                for arrival, one in zip(arrivals, opened, strict=True)
            ),
            moves,
        )

    def state_dict(self) -> tuple[dict[str, Any], Weights]:
        """All that changes from round to round: JSON values, and tensors by name."""
        state = {"round_number": self._round_number, "taken": self._inbox.taken}
        return state, _named(self._weights, self._moments)

    def load_state_dict(self, state: Mapping[str, Any], tensors: Weights) -> None:
        """Takes up a saved state; what the server does then is the same to the last bit.

        Args:
            state: The first that `state_dict` gave, as it is or from JSON.
            tensors: The second.

        Raises:
            CheckpointError: If they are not the state of a server of this model and optimizer.
        """
        expected = {name: x.shape for name, x in _named(self._weights, self._moments).items()}
        found = {name: x.shape for name, x in tensors.items()}
        if expected != found:
            names = {*expected, *found}
            wrong = min(name for name in names if expected.get(name) != found.get(name))
            raise CheckpointError(
                f"`{wrong} has shape {expected.get(wrong)}` must hold for a server's state, but "
                f"got {found.get(wrong)}. Load it into a server of the same model and optimizer."
            )
        try:
            number = int(state["round_number"])
            taken = [(int(sent), int(client)) for sent, client in state["taken"]]
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                "`a server's state holds round_number and taken` must hold, but got "
                f"{error!r}. Load what `state_dict` gave."
            ) from error
        self._round_number = number
        self._inbox.restore(number, taken)
        self._weights = _part("weights/", self._weights, tensors)
        if self._moments is not None:
            self._moments = optimizer.Moments(
                _part("mean/", self._weights, tensors), _part("square/", self._weights, tensors)
            )

    def _norms(self, updates: Sequence[Update]) -> list[float]:
        """Of every update, where a setting asks for them; else zeros."""
        asked = (self._settings.norm_bound, self._settings.outlier_factor) != (None, None)
        return [weighting.norm_of(update) if asked else 0.0 for update in updates]

    def _norm_limit(self, norms: Sequence[float]) -> float:
        """The norm above which an update is refused; none if half of them send nothing."""
        factor = self._settings.outlier_factor
        middle = median(norms) if norms else 0.0
        return math.inf if factor is None or middle == 0 else factor * middle

    def _factors(self, norms: Sequence[float]) -> list[float]:
        """What each update is shortened by."""
        bound = self._settings.norm_bound
        return [1.0 if bound is None or norm <= bound else bound / norm for norm in norms]

    def _shares(self, round_number: int, updates: Sequence[Update]) -> list[float]:
        """Shares in the mean; alike where there is no weighting."""
        settings = self._settings
        if settings.aggregation != "mean":
            return weighting.shares_of([1.0] * len(updates))
        match settings.weighting:
            case "examples":
                weights = weighting.example_weights(updates)
            case "uniform":
                weights = [1.0] * len(updates)
            case "error_aware":
                by_examples = weighting.shares_of(weighting.example_weights(updates))
                mean = mean_change(self._weights, updates, by_examples)
                square = math.fsum(
                    float(np.square(x, dtype=np.float64).sum()) for x in mean.values()
                )
                weights = weighting.error_aware_weights(updates, square)
        old = weighting.staleness_weights(updates, round_number, settings.staleness_power)
        return weighting.shares_of([w * s for w, s in zip(weights, old, strict=True)])

    def _combined(
        self, updates: Sequence[Update], shares: Sequence[float], factors: Sequence[float]
    ) -> Weights:
        match self._settings.aggregation:
            case "mean":
                shortened = [share * factor for share, factor in zip(shares, factors, strict=True)]
                return mean_change(self._weights, updates, shortened)
            case "median":
                return median_change(self._weights, updates, factors)
            case "trimmed_mean":
                return trimmed_mean_change(self._weights, updates, factors, self._settings.trim)

    def _move(self, round_number: int, change: Weights) -> None:
        """Weights and moments after the optimizer's step, if all of them are finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            weights, moments = optimizer.step(self._settings, self._weights, change, self._moments)
        for name, values in _named(weights, moments).items():
            if not np.isfinite(values).all():
                raise DivergedError(
                    f"`all of {name} are finite` must hold after round {round_number}, but they "
                    "are not: the change is dropped. Lower `server.learning_rate` "
                    f"({self._settings.learning_rate:g}), or set `server.norm_bound`."
                )
        self._weights, self._moments = weights, moments


def _key(update: Update) -> tuple[int, int]:
    return update.client, update.round_number


def _receipt(
    arrival: Arrival,
    opened: Opened,
    norms: Mapping[tuple[int, int], float],
    limit: float,
    shares: Mapping[tuple[int, int], float],
) -> Receipt:
    if opened.update is None:
        return Receipt(arrival.client, opened.status, opened.detail, 0.0)
    key = _key(opened.update)
    if key in shares:
        return Receipt(arrival.client, opened.status, opened.detail, shares[key])
    detail = (
        f"`norm <= {limit:.4g}` must hold, but got {norms[key]:.4g}: raise `outlier_factor` if "
        "clients may differ so much."
    )
    return Receipt(arrival.client, ArrivalStatus.TOO_LARGE, detail, 0.0)


def _named(weights: Weights, moments: optimizer.Moments | None) -> Weights:
    """All tensors of a state, by name."""
    tensors = {f"weights/{name}": values for name, values in weights.items()}
    if moments is not None:
        tensors |= {f"mean/{name}": values for name, values in moments.mean.items()}
        tensors |= {f"square/{name}": values for name, values in moments.square.items()}
    return tensors


def _part(prefix: str, names: Weights, tensors: Weights) -> Weights:
    return {name: np.array(tensors[prefix + name], np.float32) for name in names}
