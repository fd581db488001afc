"""A robust hierarchical fit of log-seconds.

Effects: of fleet, strategy, device class, class and strategy, client, and a client's strategy.

Every effect is a Huber centre of what the others leave: it minimises `sum w rho(value - m) + prior
rho(m)`, with `rho` quadratic up to `CLIP` and linear beyond. Small scatter is averaged, far values
are outvoted as by a median, and an effect that few values speak for stays near 0, so that its
client is predicted like its class (shrinkage).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..arrays import FloatArray, IntArray
from .start import within_clients

CLIP = 0.1
"""Log-seconds beyond which a value only votes for a direction: 10 %, the scatter of a device."""

PRIOR = 1.1
"""Values that 0 counts for: just above one, so a single far value is not believed yet."""

_SWEEPS = 8  # at most
_SETTLED = 1e-6  # log-seconds by which a sweep moves a sum of effects; noise is 10 %
_ROUNDING = 1e-12
_STEPS = 60  # at most; half a dozen do, unless many are equally good
_HALVE_EVERY = 6  # steps, so that the bracket shrinks whatever Newton's steps do
_NUDGE = 1e-9


@dataclass(frozen=True, eq=False)
class Values:
    """What is known of some cells, in log-seconds; several values of one cell are fine.

    Args:
        client: `(values,)` number of the client.
        column: `(values,)` number of the strategy.
        value: `(values,)` log of the seconds over what was predicted.
        weight: `(values,)` how much a value counts for all but the client's own strategies.
        shrinks: `(values,)` in [0, 1]: how much the prediction is worth; 0 if it was no more than
            a guess, and the value then needs no second one to be believed.
    """

    client: IntArray
    column: IntArray
    value: FloatArray
    weight: FloatArray
    shrinks: FloatArray


@dataclass(frozen=True, eq=False)
class OwnValues:
    """The same values as evidence on single strategies of single clients.

    Args:
        weight: `(values,)` how much each counts; it fades slower: what a device lacks stays.
        level: `(values,)` the client's effect when it was observed; NaN for its present one.
    """

    weight: FloatArray
    level: FloatArray


@dataclass(frozen=True, eq=False)
class Effects:
    """The fitted effects, in log-seconds.

    Args:
        pooled: `(classes, strategies)` the sum of all but those of the clients.
        client: `(clients,)` of a client, whatever it does.
        own: `(clients, strategies)` of a strategy on one client only.
        classes: `(clients,)` each client's class.
    """

    pooled: FloatArray
    client: FloatArray
    own: FloatArray
    classes: IntArray

    @property
    def total(self) -> FloatArray:
        """`(clients, strategies)` the sum of all effects."""
        return self.pooled[self.classes] + self.client[:, None] + self.own

    @property
    def level(self) -> FloatArray:
        """`(clients,)` a client's mean over the strategies, without its own ones."""
        return np.asarray(self.client + self.pooled.mean(axis=1)[self.classes])


def huber_centre(
    group: IntArray,
    value: FloatArray,
    weight: FloatArray,
    prior: FloatArray,
    start: FloatArray | None = None,
) -> FloatArray:
    """The Huber centre of every group; of equal ones that nearest to 0.

    Args:
        group: `(values,)` to which group each belongs.
        value: `(values,)`.
        weight: `(values,)` > 0.
        prior: `(groups,)` weight of a value 0 in each.
        start: `(groups,)` where to begin; nearer to the centres is faster. 0 where None.

    Returns:
        `(groups,)`; exactly 0 where all values are 0 or there is none.

    Example:
        >>> group, prior = np.array([0, 0, 0, 1]), np.array([0.0, 2.0])
        >>> centre = huber_centre(group, np.array([1.0, 1.02, 9.0, 5.0]), np.ones(4), prior)
        >>> centre.round(3)
        array([1.06, 0.05])
    """
    low, high = np.zeros(len(prior)), np.zeros(len(prior))
    np.minimum.at(low, group, value)
    np.maximum.at(high, group, value)
    if not (low < high).any():
        return low
    least = _ROUNDING * np.bincount(group, weight, len(prior))
    middle = np.zeros(len(prior)) if start is None else np.clip(start, low, high)
    for step in range(_STEPS):
        push, slope = _push(group, value, weight, prior, middle)
        # Where nothing pulls on the side of 0, all from there on are equal: go on towards it.
        done = (np.abs(push) <= least) & (slope > 0) | (high - low <= _NUDGE)
        if done.all():
            break
        up = np.where(middle > 0, push > least, push >= -least)
        low, high = np.where(up, middle, low), np.where(up, high, middle)
        newton = middle + push / np.where(slope > 0, slope, np.inf)
        within = (
            (low <= newton)
            & (newton <= high)
            & (slope > 0)
            & (step % _HALVE_EVERY < _HALVE_EVERY - 1)
        )
        middle = np.where(done, middle, np.where(within, newton, (low + high) / 2))
    return middle


def _push(
    group: IntArray,
    value: FloatArray,
    weight: FloatArray,
    prior: FloatArray,
    middle: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """`(groups,)` where to a group's values pull its centre, and how much less a little further."""
    left = value - middle[group]
    votes = weight * np.minimum(np.maximum(left, -CLIP), CLIP)
    pulled = prior * np.minimum(np.maximum(middle, -CLIP), CLIP)
    push: FloatArray = np.bincount(group, votes, len(prior)) - pulled
    nearer = middle - _NUDGE * np.sign(middle)
    pulls = weight * (np.abs(value - nearer[group]) < CLIP)
    slope: FloatArray = np.bincount(group, pulls, len(prior)) + prior * (np.abs(nearer) < CLIP)
    return push, slope


def fit_effects(
    values: Values,
    own: OwnValues | None,
    classes: IntArray,
    num_classes: int,
    num_strategies: int,
) -> Effects:
    """Fits all effects by turns, the widest first.

    What narrower effects have in common is given to the wider one after every turn: if all that is
    known of a client is one strategy, the whole client differs, not just that.

    Args:
        values: What is known.
        own: The same as evidence on own strategies; none are fitted where None.
        classes: `(clients,)` each client's class, counted from 0.
        num_classes: Classes, with those that none of these clients is of.
        num_strategies: Strategies that take part.
    """
    if _is_as_predicted(values, own):
        nothing = np.zeros((num_classes, num_strategies)), np.zeros(len(classes))
        return Effects(*nothing, np.zeros((len(classes), num_strategies)), classes)
    levels = _levels(values, classes, num_classes, num_strategies)
    found = [np.zeros(len(level.prior)) for level in levels]
    shape = (num_classes, num_strategies)
    own_effects = np.zeros((len(classes), num_strategies))
    if not values.shrinks.all():
        found[_STRATEGY], found[_CLIENT] = within_clients(
            values.client, values.column, values.value, values.weight, own_effects.shape, CLIP
        )
    before = np.zeros(own_effects.shape)
    for _ in range(_SWEEPS):
        for k, level in enumerate(levels):
            rest = sum(found[j][other.group] for j, other in enumerate(levels) if j != k)
            left = values.value - rest - own_effects[values.client, values.column]
            found[k] = huber_centre(level.group, left, values.weight, level.prior, found[k])
        for narrow, wide in _WITHIN:
            _move_common_(levels, found, narrow, wide, values.weight)
        pooled = found[_FLEET] + found[_STRATEGY] + found[_CLASS][:, None]
        pooled = pooled + found[_POOL].reshape(shape)
        effects = Effects(pooled, found[_CLIENT], own_effects, classes)
        if own is not None:
            own_effects = _fit_own(values, own, effects)
            effects = replace(effects, own=own_effects)
        total = effects.total
        if np.abs(total - before).max() <= _SETTLED:
            break
        before = total
    return effects


def _is_as_predicted(values: Values, own: OwnValues | None) -> bool:
    """Whether all is as predicted, so that every effect is exactly 0."""
    return not values.value.any() and (own is None or not np.nan_to_num(own.level).any())


_FLEET, _STRATEGY, _CLASS, _CLIENT, _POOL = range(5)
_WITHIN = ((_CLIENT, _CLASS), (_POOL, _CLASS), (_CLASS, _FLEET), (_STRATEGY, _FLEET))


@dataclass(frozen=True, eq=False)
class _Level:
    """One level of the hierarchy: the group of every value, and the prior of every group."""

    group: IntArray
    prior: FloatArray

    @classmethod
    def of(cls, values: Values, group: IntArray, size: int) -> _Level:
        weight = np.bincount(group, values.weight, size)
        known = np.bincount(group, values.weight * values.shrinks, size)
        return cls(group, _prior(weight) * known / np.maximum(weight, _ROUNDING))


def _prior(weight: FloatArray | IntArray) -> FloatArray:
    """`(groups,)` what 0 counts for: `PRIOR` against one value, and less the more there are.

    Else narrow effects would take up what the priors of wider ones hold back.
    """
    return np.asarray(PRIOR / np.maximum(weight, 1.0), dtype=np.float64)


def _levels(
    values: Values, classes: IntArray, num_classes: int, num_strategies: int
) -> list[_Level]:
    """Fleet, strategy, class, class and strategy, client."""
    of_class = classes[values.client]
    pool = of_class * num_strategies + values.column
    return [
        _Level.of(values, np.zeros(len(values.client), dtype=np.int64), 1),
        _Level.of(values, values.column, num_strategies),
        _Level.of(values, of_class, num_classes),
        _Level.of(values, values.client, len(classes)),
        _Level.of(values, pool, num_classes * num_strategies),
    ]


def _move_common_(
    levels: list[_Level], found: list[FloatArray], narrow: int, wide: int, weight: FloatArray
) -> None:
    """Moves the centre of the narrow effects in each wide group there; the sums stay the same."""
    group, nothing = levels[wide].group, np.zeros(len(found[wide]))
    common = huber_centre(group, found[narrow][levels[narrow].group], weight, nothing)
    found[wide] = found[wide] + common
    moved = np.zeros(len(found[narrow]))
    moved[levels[narrow].group] = common[group]
    found[narrow] = found[narrow] - moved


def _fit_own(values: Values, own: OwnValues, effects: Effects) -> FloatArray:
    """`(clients, strategies)` what is special to one strategy of one client, against its others.

    Measured against the client's level of that time: a device that has become slow since is slow at
    everything, and what it was seen doing before says nothing else.
    """
    client, column = values.client, values.column
    contrast = effects.pooled - effects.pooled.mean(axis=1, keepdims=True)
    level = np.where(np.isnan(own.level), effects.level[client], own.level)
    left = values.value - level - contrast[effects.classes[client], column]
    shape = effects.own.shape
    cell = client * shape[1] + column
    prior = _prior(np.bincount(cell, own.weight, effects.own.size))
    found = huber_centre(cell, left, own.weight, prior)
    common = huber_centre(client, found[cell], own.weight, np.zeros(shape[0]))
    found[cell] -= common[client]
    return found.reshape(shape)
