"""What a client may do in a round: a method at given bits, and the menu of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .arrays import FloatArray

_QUANTIZED = re.compile(r"(ptq|qat)-w(\d+)a(\d+)(?:-u(\d+))?")
_FLOAT = re.compile(r"fp32(?:-u(\d+))?")
_FLOAT_BITS = 32
_DEFAULT_WIRE_BITS = 4
_WIRE_BITS = (2, 3, 4, 5, 6, 7, 8, 32)


class Method(StrEnum):
    """How a client takes part in a round."""

    SKIP = "skip"
    FP32 = "fp32"
    PTQ = "ptq"
    QAT = "qat"


@dataclass(frozen=True)
class Strategy:
    """A method together with its bits; written `qat-w2a2-u4`.

    Args:
        method: What the client computes.
        weight_bits: Bits of the deployed weights, 2 to 8 for ptq and qat; 32 for fp32; 0 for skip.
        activation_bits: Bits of the deployed activations, likewise.
        wire_bits: Bits per parameter of the uploaded update: 2 to 8, or 32; 0 for skip.

    Raises:
        ValueError: If the method is no `Method`, or the bits are no whole numbers or do not belong
            to the method.

    Example:
        >>> Strategy.parse("qat-w2a2").wire_bits
        4
        >>> str(Strategy(Method.PTQ, 4, 8, 8))
        'ptq-w4a8-u8'
    """

    method: Method
    weight_bits: int
    activation_bits: int
    wire_bits: int

    def __post_init__(self) -> None:
        self._check_types()
        bits = (self.weight_bits, self.activation_bits)
        if self.method is Method.SKIP:
            rule, holds = (
                "weight_bits = activation_bits = wire_bits = 0",
                (*bits, self.wire_bits) == (0,) * 3,
            )
        elif self.method is Method.FP32:
            rule = f"weight_bits = activation_bits = 32 and wire_bits in {_WIRE_BITS}"
            holds = bits == (_FLOAT_BITS,) * 2 and self.wire_bits in _WIRE_BITS
        else:
            rule = f"2 <= weight_bits, activation_bits <= 8 and wire_bits in {_WIRE_BITS}"
            holds = all(2 <= b <= 8 for b in bits) and self.wire_bits in _WIRE_BITS
        if not holds:
            raise ValueError(
                f"`{rule}` must hold for {self.method}, but got weight_bits={self.weight_bits}, "
                f"activation_bits={self.activation_bits}, wire_bits={self.wire_bits}."
            )

    def _check_types(self) -> None:
        if not isinstance(self.method, Method):
            raise ValueError(
                f"`method` must be a Method, but got {self.method!r}. "
                f"Write for example Method.QAT, or Strategy.parse('qat-w2a2')."
            )
        for name in ("weight_bits", "activation_bits", "wire_bits"):
            value = getattr(self, name)
            if type(value) is not int:
                raise ValueError(f"`{name}` must be an int, but got {value!r}.")

    @classmethod
    def parse(cls, text: str) -> Strategy:
        """Reads `skip`, `fp32[-uN]` or `ptq|qat-w<bits>a<bits>[-u<bits>]`.

        Raises:
            ValueError: If the text is not of that form, or its bits are not allowed.

        Example:
            >>> Strategy.parse("ptq-w2a2")
            Strategy(method=<Method.PTQ: 'ptq'>, weight_bits=2, activation_bits=2, wire_bits=4)
        """
        if text == Method.SKIP:
            return cls(Method.SKIP, 0, 0, 0)
        if found := _FLOAT.fullmatch(text):
            return cls(Method.FP32, _FLOAT_BITS, _FLOAT_BITS, int(found[1] or _FLOAT_BITS))
        if found := _QUANTIZED.fullmatch(text):
            wire_bits = int(found[4] or _DEFAULT_WIRE_BITS)
            return cls(Method(found[1]), int(found[2]), int(found[3]), wire_bits)
        raise ValueError(
            "a strategy must be `skip`, `fp32`, `ptq-w<bits>a<bits>` or `qat-w<bits>a<bits>`, "
            f"optionally with `-u<wire bits>`, but got {text!r}. Write for example 'qat-w2a2'."
        )

    def __str__(self) -> str:
        if self.method is Method.SKIP:
            return "skip"
        if self.method is Method.FP32:
            name, default = "fp32", _FLOAT_BITS
        else:
            name = f"{self.method}-w{self.weight_bits}a{self.activation_bits}"
            default = _DEFAULT_WIRE_BITS
        return name if self.wire_bits == default else f"{name}-u{self.wire_bits}"

    @property
    def is_skip(self) -> bool:
        """Whether the client stays out of the round."""
        return self.method is Method.SKIP

    @property
    def compute(self) -> tuple[Method, int, int]:
        """What a training step computes: method and bits, whatever the wire's."""
        return self.method, self.weight_bits, self.activation_bits


def parse_strategy(strategy: Strategy | str) -> Strategy:
    """Reads a text; takes a strategy as it is.

    Raises:
        ValueError: If it is neither, or the text cannot be read.
    """
    if isinstance(strategy, str):
        return Strategy.parse(strategy)
    if not isinstance(strategy, Strategy):
        raise ValueError(
            f"every strategy must be a Strategy or text, but got {strategy!r}. "
            "Write for example 'qat-w2a2'."
        )
    return strategy


def parse_menu(strategies: Iterable[Strategy | str]) -> tuple[Strategy, ...]:
    """Turns strategies or their texts into a menu without doubles.

    Raises:
        ValueError: If the menu is empty, names a strategy twice, or holds something else or a text
            that cannot be read.

    Example:
        >>> [str(s) for s in parse_menu(["skip", "qat-w2a2-u4"])]
        ['skip', 'qat-w2a2']
    """
    if isinstance(strategies, str):
        raise ValueError(f"`strategies` must be a sequence, but got the text {strategies!r}.")
    menu = tuple(parse_strategy(s) for s in strategies)
    if not menu:
        raise ValueError("`strategies` must name at least one strategy, but it is empty.")
    doubles = sorted({str(s) for s in menu if menu.count(s) > 1})
    if doubles:
        raise ValueError(f"`strategies` must differ, but {doubles} stand there more than once.")
    return menu


def teaches(menu: Iterable[Strategy], deployed: Strategy) -> FloatArray:
    """How much each strategy's data teaches the deployed precision (design section 3).

    One for QAT at the deployed bits, zero for everything else.

    Args:
        menu: The strategies.
        deployed: A ptq or qat strategy with the deployment's bits.

    Returns:
        `(strategies,)` values in [0, 1].

    Example:
        >>> menu = parse_menu(["skip", "ptq-w2a2", "qat-w2a2", "qat-w4a4"])
        >>> teaches(menu, Strategy.parse("qat-w2a2"))
        array([0., 0., 1., 0.])
    """
    wanted = (Method.QAT, deployed.weight_bits, deployed.activation_bits)
    return np.array([float((s.method, s.weight_bits, s.activation_bits) == wanted) for s in menu])
