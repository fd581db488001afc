"""Fine-grained adjustment: learns from observed rounds how long each client really takes.

The prediction is `table * exp(effects)`, with effects (`fit_effects`) of the recent log ratios of
observed to predicted seconds. Only these are kept: an estimate cannot drift away from its data.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import scipy  # loads `scipy.special`, which takes 150 ms, when it is first used
from numpy.typing import ArrayLike

from ..arrays import BoolArray, FloatArray, IntArray
from ..goal import Outcome
from ..strategy import Strategy
from .effects import OwnValues, Values, fit_effects
from .fit import Fit
from .observations import ObservationLog
from .predicted import LONGEST, PredictedTimes
from .spread import fit_variances

FADING = 0.7
"""What an observation of a client still counts after its next one: the newest three decide."""

OWN_FADING = 0.8
"""The same for what is special to one strategy of a client, counted in rounds of just that."""

_HINDSIGHT = 3  # later observations until a client's level of that time is known
_UNTRIED_SPREAD = 0.2  # log-seconds by which a client's strategy may differ from what it is like
_LEAST_SPREAD = 0.01  # of a late client's time: the fleet may have had no scatter so far


class TimeModel:
    """Learns the seconds of every client and strategy; deterministic, and robust.

    A single far value moves an estimate by a few percent only (a second one is believed if there
    are few others), a device that becomes slower or faster is followed within four of its rounds,
    and what a client never did is predicted from its other strategies, its class and the fleet.

    Args:
        menu: The strategies.
        seconds: `(clients, strategies)` predicted times; NaN where unknown: filled in from what is
            known, 1 s where nothing is. A time of 0 stays 0.
        device_classes: `(clients,)` names of classes that are alike; one class where None.

    Raises:
        ValueError: If a time is negative or infinite, or the classes are not one a client.

    References:
        P. Huber, "Robust estimation of a location parameter", Ann. Math. Statist., 1964; for
        late clients J. Tobin, "Estimation of relationships for limited dependent variables",
        Econometrica, 1958.

    Example:
        >>> menu = [Strategy.parse("ptq-w2a2"), Strategy.parse("qat-w2a2")]
        >>> model = TimeModel(menu, [[1.0, 2.0], [1.0, 2.0]])
        >>> for _ in range(8):  # both take half as long again; nobody tries ptq
        ...     model.observe([Outcome(i, menu[1], 3.0, True) for i in range(2)])
        >>> model.predict().seconds.round(1)
        array([[1.5, 3. ],
               [1.5, 3. ]])
    """

    def __init__(
        self,
        menu: Sequence[Strategy],
        seconds: ArrayLike,
        device_classes: Sequence[Hashable] | None = None,
    ) -> None:
        self._menu = tuple(menu)
        self._busy = np.flatnonzero([not s.is_skip for s in self._menu])
        self._table: FloatArray = np.zeros((0, len(self._menu)))
        self._is_known: BoolArray = np.zeros((0, len(self._busy)), dtype=bool)
        self._class_names: list[Hashable] = []
        self._classes: IntArray = np.zeros(0, dtype=np.int64)
        self._seen: IntArray = np.zeros(0, dtype=np.int64)
        self._log = ObservationLog.empty()
        self._fitted: Fit | None = None
        self.join(seconds, device_classes)

    def join(self, seconds: ArrayLike, device_classes: Sequence[Hashable] | None = None) -> None:
        """More clients, after those that are there; what was learned stays.

        What fills unknown times is worked out anew from all clients.

        Args:
            seconds: `(new clients, strategies)` predicted times; NaN where unknown.
            device_classes: `(new clients,)` names; the one class of those without where None.

        Raises:
            ValueError: As for a new model; nothing has changed then.
        """
        told = np.array(seconds, dtype=np.float64)
        _check_table(told, len(self._menu))
        names = ["all"] * len(told) if device_classes is None else list(device_classes)
        if len(names) != len(told):
            raise ValueError(
                f"`device_classes` must hold {len(told)} names, one a client, but has {len(names)}."
            )
        self._class_names = [*self._class_names, *names]
        number = {name: k for k, name in enumerate(dict.fromkeys(self._class_names))}
        self._classes = np.array([number[name] for name in self._class_names], dtype=np.int64)
        before, busy, was_known = self._table, self._busy, self._is_known
        self._table = np.concatenate([before, told])
        self._is_known = np.concatenate([was_known, ~np.isnan(told[:, busy])])
        self._table[:, busy] = _filled(self._table[:, busy], self._is_known, self._classes)
        self._seen = np.concatenate([self._seen, np.zeros(len(told), dtype=np.int64)])
        ratio = np.ones(was_known.shape)
        old, new = before[:, busy], self._table[: len(before), busy]
        np.divide(old, new, out=ratio, where=~was_known)
        self._log, self._fitted = self._log.measured_against(np.log(ratio)), None

    def predict(self, clients: IntArray | None = None) -> PredictedTimes:
        """What to expect of the next round.

        Args:
            clients: `(clients,)` whose times are asked for; all where None.
        """
        rows = np.arange(len(self._table)) if clients is None else clients
        fit, busy = self._fit(), self._busy
        table = self._table[rows]
        total, variance, error = (np.zeros(table.shape) for _ in range(3))
        effects, variance[:, busy], weight = fit.of(rows, self._classes[rows])
        total[:, busy] = np.clip(effects, -LONGEST, LONGEST)
        prior = _UNTRIED_SPREAD**2
        scatter = variance[:, busy]
        error[:, busy] = np.sqrt(prior * scatter / (scatter + weight * prior))
        return PredictedTimes(table * np.exp(total), np.sqrt(variance + error**2), error)

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Takes in a round; the order of its outcomes does not matter.

        A client that was late or failed counts as one that would have taken longer, if it was
        waited for longer than it was expected to take; otherwise it says nothing about its speed.
        """
        new = self._observed(outcomes)
        if len(new.client):
            self._log = self._settled().with_new(new)
            np.maximum.at(self._seen, new.client, new.stamp)
            self._fitted = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep, ready for JSON."""
        state: dict[str, Any] = {
            f.name: getattr(self._log, f.name).tolist() for f in fields(self._log)
        }
        state["level"] = [None if np.isnan(v) else v for v in state["level"]]  # JSON has no NaN
        return {**state, "num_clients": len(self._seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state.

        Raises:
            ValueError: If it is no such state, or belongs to another fleet or menu.
        """
        names = [f.name for f in fields(ObservationLog)]
        if missing := [name for name in (*names, "num_clients") if name not in state]:
            raise ValueError(f"a state of times must hold all of its arrays, but not {missing}.")
        log = ObservationLog(*(state[name] for name in names))
        shape, num_clients = self._is_known.shape, state["num_clients"]
        is_inside = (0 <= log.client) & (log.client < shape[0])
        is_inside &= (0 <= log.column) & (log.column < shape[1])
        if num_clients != shape[0] or not is_inside.all():
            raise ValueError(
                f"a state of times must be of {shape[0]} clients and {shape[1]} strategies, "
                f"but is of {num_clients} clients. Load it into what saved it."
            )
        self.forget()
        self._log = log
        np.maximum.at(self._seen, log.client, log.stamp)  # the newest of a client is always kept

    def forget(self) -> None:
        """Forgets all observations: what is left is what the tables say."""
        self._log, self._seen = ObservationLog.empty(), np.zeros_like(self._seen)
        self._fitted = None

    def _observed(self, outcomes: Sequence[Outcome]) -> ObservationLog:
        """What a round says, in an order of its own."""
        place = {self._menu[s]: k for k, s in enumerate(self._busy)}
        rows = sorted(
            (o.client, place[o.strategy], o.seconds, o.succeeded)
            for o in outcomes
            if o.strategy in place and o.seconds
        )
        client, column = (np.array([r[k] for r in rows], dtype=np.int64) for k in (0, 1))
        late = ~np.array([r[3] for r in rows], dtype=bool)
        table, times = self._table[client, self._busy[column]], self.predict(client)
        here = np.arange(len(client)), self._busy[column]
        with np.errstate(divide="ignore", invalid="ignore"):  # where the table says 0 s
            ratio = np.log([r[2] for r in rows]) - np.log(table)
            expected = np.log(times.seconds[here]) - np.log(table)
        spread = times.log_spread[here]
        ratio = np.where(late, _beyond(ratio, expected, spread), ratio)
        use = np.flatnonzero((table > 0) & ~(late & ~(ratio > expected)))
        client, column = client[use], column[use]
        ratio, expected = np.clip(ratio[use], -LONGEST, LONGEST), expected[use]
        first = np.searchsorted(client, client)  # of a client that answered more than once
        stamp = self._seen[client] + 1 + np.arange(len(client)) - first
        unknown = np.full(len(client), np.nan)
        return ObservationLog(client, column, stamp, ratio, ratio - expected, unknown)

    def _settled(self) -> ObservationLog:
        """The log with the levels of what lies far enough back to be judged."""
        log = self._log
        is_due = np.isnan(log.level) & (self._age() >= _HINDSIGHT)
        if not is_due.any():
            return log
        fit = self._fit()
        level = fit.effects.level[fit.place(log.client)]
        return replace(log, level=np.where(is_due, level, log.level))

    def _age(self) -> IntArray:
        """`(values,)` how many observations of the same client are newer."""
        return self._seen[self._log.client] - self._log.stamp

    def _recency(self) -> FloatArray:
        """`(values,)` what is left of each observation's weight."""
        return np.asarray(FADING ** self._age(), dtype=np.float64)

    def _own_weight(self) -> FloatArray:
        return np.asarray(OWN_FADING ** self._log.rank(), dtype=np.float64)

    def _fit(self) -> Fit:
        """Effects and variances, once for every state."""
        if self._fitted is None:
            log, num_columns = self._log, len(self._busy)
            seen, client = np.unique(log.client, return_inverse=True)
            shape = len(seen), num_columns
            classes, num_classes = self._classes[seen], int(self._classes.max(initial=0)) + 1
            recency, own_weight = self._recency(), self._own_weight()
            known = self._is_known[log.client, log.column].astype(float)
            values = Values(client, log.column, log.ratio, recency, known)
            own = OwnValues(own_weight, log.level)
            cell = client * num_columns + log.column
            self._fitted = Fit(
                seen,
                fit_effects(values, own, classes, num_classes, num_columns),
                fit_variances(
                    client, log.column, log.error, own_weight, classes, num_classes, shape
                ),
                np.bincount(cell, recency, seen.size * num_columns).reshape(shape).astype(float),
            )
        return self._fitted


def _beyond(waited: FloatArray, expected: FloatArray, spread: FloatArray) -> FloatArray:
    """Mean of a normal value known to be beyond what was waited; -inf where that is no news."""
    width = np.maximum(spread, _LEAST_SPREAD)
    z = (waited - expected) / width
    hazard = np.exp(-(z**2) / 2 - np.log(2 * np.pi) / 2 - scipy.special.log_ndtr(-z))
    return np.where(z > 0, expected + width * hazard, -np.inf)


def _check_table(seconds: FloatArray, num_strategies: int) -> None:
    if seconds.ndim != 2 or seconds.shape[1] != num_strategies:
        raise ValueError(
            f"`seconds` must have shape (clients, {num_strategies}), a column a strategy of the "
            f"menu, but got {seconds.shape}. Write NaN where a time is not known."
        )
    bad = np.argwhere((seconds < 0) | np.isinf(seconds))
    if len(bad):
        i, k = bad[0]
        raise ValueError(
            f"`seconds` must be finite and >= 0, or NaN where unknown, but seconds[{i}, {k}] = "
            f"{seconds[i, k]}. Forbid what a client cannot do (`allowed`); its time may be NaN."
        )


def _filled(seconds: FloatArray, known: BoolArray, classes: IntArray) -> FloatArray:
    """Unknown times by what typically lies between strategies, classes and clients."""
    if known.all():
        return seconds
    client, column = np.nonzero(known & (seconds > 0))
    log_seconds = np.log(seconds[client, column])
    weight, prior = np.ones(len(client)), np.zeros(len(client))
    values = Values(client, column, log_seconds, weight, prior)
    num_classes = int(classes.max()) + 1
    effects = fit_effects(values, None, classes, num_classes, seconds.shape[1])
    return np.where(known, seconds, np.exp(effects.total))
