"""What a search may vary: ranges and choices of keys, what a trial's values make of a table.

A trial's parameters are named as the keys are, dotted. Beside the keys of the configuration there
are `bits` (the deployment's, and the menu's with it), `wire_bits` (of every ptq and qat strategy)
and `clients`, one category a client, which is there to be warned of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from ....allocator import Method, Strategy
from ....fl_core.settings.fields import KNOWN_KEYS_ONLY, Finite, Whole
from ...tables import insert_

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

BITS, WIRE_BITS, CLIENTS = "bits", "wire_bits", "clients"
ARM = "arm"
"""The parameter of a trial in which everybody does the same; no part of any space."""

HOPELESS = (
    "Samplers do not find good ones: of 100 clients with an optimum of 111.4, TPE came to 199.9 in "
    "300 trials, and to 111.86 in 60 trials over the policy. Search the policy "
    "(allocation.pick_loss, allocation.tradeoff, allocation.deadline_seconds, ...); the allocator "
    "decides for clients."
)
"""Why nobody should search a category for each client."""

_MANY = 10  # categories alike: no policy has so many
_RULES = ("strategy", "otherwise")  # keys of the allocation that name strategies of the menu

Params = Mapping[str, Any]
"""A trial's parameters as Optuna has them: a list is a text of JSON."""
_Flag = Annotated[bool, Field(strict=True)]


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class Range:
    """Numbers from `low` to `high`.

    Args:
        low: The least; whole where both ends are whole and the key takes whole numbers only.
        high: The greatest.
        log: Whether what counts is how many times greater one is than another.
        step: Between neighbours; any number, or the next whole one, where None.

    Raises:
        ValueError: If there is no number between, log and step do not go together, or steps from
            `low` miss `high`.
    """

    low: Whole | Finite
    high: Whole | Finite
    log: _Flag = False
    step: Whole | Finite | None = None

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"`low <= high` must hold, but got {self.low} and {self.high}.")
        if self.log and not self.low > 0:
            raise ValueError(f"`low > 0` must hold with log = true, but got {self.low}.")
        if self.step is not None and (self.log or not self.step > 0):
            raise ValueError(f"`step` must be > 0 and without log = true, but got {self.step}.")
        if self.step is not None and (beyond := self._beyond_last_step()):
            raise ValueError(
                f"steps of {self.step} from low = {self.low} must meet high = {self.high}, but the "
                f"last ends {beyond} before it. Take high = {_decimal(self.high) - beyond}."
            )

    def _beyond_last_step(self) -> Decimal:
        """What is left above the last step, in decimals: 0.3 is three steps of 0.1."""
        return (_decimal(self.high) - _decimal(self.low)) % _decimal(self.step or 1)

    @property
    def is_whole(self) -> bool:
        """Whether both ends, and the step if there is one, are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    def ends(self) -> dict[str, int | float]:
        """Both ends by name."""
        return {"low": self.low, "high": self.high}

    def all(self) -> Sequence[int | float]:
        """Every value of a range of whole numbers; of others, the ends."""
        if self.is_whole:
            return range(int(self.low), int(self.high) + 1, int(self.step or 1))
        return self.low, self.high


def _decimal(value: float) -> Decimal:
    """A number as it is written."""
    return Decimal(str(value))


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class Choices:
    """Values of which one is chosen; their order means nothing.

    Args:
        choices: Numbers, texts, truths, or lists of them; all different.

    Raises:
        ValueError: If two are the same.
    """

    choices: Annotated[tuple[Any, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        texts = [json.dumps(c) for c in self.choices]
        if len(set(texts)) < len(texts):
            raise ValueError(f"choices must differ, but are {', '.join(texts)}.")

    def all(self) -> Sequence[Any]:
        """Every value."""
        return self.choices


Space = Mapping[str, Range | Choices]


def changed(table: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """The table of a run with a trial's values in it; categories of clients are left out.

    Args:
        table: The whole table of a run, its menu among it.
        params: The trial's values by key.

    Raises:
        ValueError: If a key fits no place, or a strategy cannot have such bits.

    Example:
        >>> table = {"menu": ["skip", "qat-w2a2"], "training": {"rounds": 9}}
        >>> changed(table, {"training.rounds": 5, "wire_bits": 8})
        {'menu': ['skip', 'qat-w2a2-u8'], 'training': {'rounds': 5}}
    """
    new: dict[str, Any] = _copied(table)
    for key, value in params.items():
        if key not in (BITS, WIRE_BITS, ARM) and not is_client(key):
            insert_(new, key, decoded(value))
    if BITS in params:
        bits = params[BITS]
        new["weight_bits"] = new["activation_bits"] = bits
        _rename(new, lambda s: replace(s, weight_bits=bits, activation_bits=bits))
    if WIRE_BITS in params:
        _rename(new, lambda s: replace(s, wire_bits=params[WIRE_BITS]))
    if ARM in params:
        new["allocation"] |= {"solver": "uniform", "strategy": params[ARM]}
    return new


def _copied(values: Any) -> Any:
    """JSON values, in a fraction of the time that `copy.deepcopy` takes: every trial does it."""
    if isinstance(values, Mapping):
        return {key: _copied(value) for key, value in values.items()}
    return [_copied(value) for value in values] if isinstance(values, list | tuple) else values


def _rename(table: dict[str, Any], change: Callable[[Strategy], Strategy]) -> None:
    """Changes all quantized strategies that a table names, in place."""

    def renamed(text: str) -> str:
        strategy = Strategy.parse(text)
        quantized = strategy.method in (Method.PTQ, Method.QAT)
        return str(change(strategy)) if quantized else text

    table["menu"] = list(dict.fromkeys(renamed(text) for text in table["menu"]))
    allocation = table.get("allocation", {})
    for key in _RULES:
        if key in allocation:
            allocation[key] = renamed(allocation[key])


def encoded(value: Any) -> Any:
    """A value as Optuna takes it: a list becomes a text."""
    return json.dumps(list(value)) if isinstance(value, list | tuple) else value


def decoded(value: Any) -> Any:
    """What `encoded` was given.

    Example:
        >>> decoded(encoded(["skip", "qat-w2a2"])), decoded("fedhq"), decoded(0.5)
        (['skip', 'qat-w2a2'], 'fedhq', 0.5)
    """
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value


def client_key(client: int) -> str:
    """The name of a client's category."""
    return f"{CLIENTS}.{client}"


def is_client(key: str) -> bool:
    """Whether a parameter is a client's category."""
    return key.startswith(f"{CLIENTS}.")


def distributions(space: Space, num_clients: int) -> dict[str, BaseDistribution]:
    """The space as Optuna has it, by parameter.

    Args:
        space: What may be varied.
        num_clients: Of the fleet, for categories of clients.

    Example:
        >>> distributions({"bits": Choices((2, 4)), "training.rounds": Range(1, 3)}, 20)
        ... # doctest: +NORMALIZE_WHITESPACE
        {'bits': CategoricalDistribution(choices=(2, 4)),
         'training.rounds': IntDistribution(high=3, log=False, low=1, step=1)}
    """
    found: dict[str, BaseDistribution] = {}
    for key, values in space.items():
        names = [client_key(i) for i in range(num_clients)] if key == CLIENTS else [key]
        found |= dict.fromkeys(names, _distribution(values))
    return found


def _distribution(values: Range | Choices) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(values, Choices):
        return CategoricalDistribution([encoded(c) for c in values.choices])
    if values.is_whole:
        step = 1 if values.step is None else int(values.step)
        return IntDistribution(int(values.low), int(values.high), values.log, step)
    return FloatDistribution(values.low, values.high, values.log, values.step)


def suggest(trial: optuna.trial.BaseTrial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Asks a trial for a value of every parameter.

    Args:
        trial: Of Optuna.
        space: What `distributions` returned.
    """
    return {name: _suggested(trial, name, kind) for name, kind in space.items()}


def _suggested(trial: optuna.trial.BaseTrial, name: str, kind: BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match kind:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, kind.choices)
        case IntDistribution():
            return trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
        case FloatDistribution():
            return trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
    raise TypeError(f"no distribution of fedhq's: {kind!r}")


def enumerated_clients(
    space: optuna.Study | Mapping[str, BaseDistribution], num_clients: int | None = None
) -> str | None:
    """Why a search space that enumerates clients will not do; None where it is another.

    It is taken for one if many categories have the same choices and differ but by a number in
    their names, or if there is one a client.

    Args:
        space: Distributions by name, or a study, of which the last trial's are looked at.
        num_clients: Of the fleet, where it is known.

    Example:
        >>> from optuna.distributions import CategoricalDistribution
        >>> kind = CategoricalDistribution(["ptq-w2a2", "qat-w2a2"])
        >>> print(enumerated_clients({f"client_{i}": kind for i in range(100)})[:42])
        100 parameters such as `client_0` look lik
    """
    given = space if isinstance(space, Mapping) else _distributions_of(space)
    alike: dict[tuple[str, tuple[Any, ...]], list[str]] = {}
    for name, distribution in given.items():
        if (choices := getattr(distribution, "choices", None)) is not None:
            alike.setdefault((re.sub(r"\d+", "#", name), choices), []).append(name)
    most = max(alike.values(), key=len, default=[])
    if len(most) < (_MANY if num_clients is None else min(_MANY, max(2, num_clients))):
        return None
    return f"{len(most)} parameters such as `{most[0]}` look like one for each client. {HOPELESS}"


def _distributions_of(study: optuna.Study) -> Mapping[str, BaseDistribution]:
    trials: Sequence[optuna.trial.FrozenTrial] = study.get_trials(deepcopy=False)
    return next((t.distributions for t in reversed(trials) if t.distributions), {})
