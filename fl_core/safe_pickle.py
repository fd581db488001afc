"""Reads a pickle without running what it asks for.

A pickle may name any function to be called. Here it may name only what the caller knows; whatever
else it names is refused before anything of it runs. Nor does it get more memory than its size
allows: it is read through once before, at about 5 MB/s, for a few bytes may ask for gigabytes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Mapping
from typing import BinaryIO

# What the documentation of `pickle` and a look at its code say that a damaged pickle raises.
_DAMAGED = (
    pickle.UnpicklingError,
    ValueError,
    EOFError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)
_PUTS = frozenset(o for o in pickletools.opcodes if o.name in ("PUT", "BINPUT", "LONG_BINPUT"))


class _Unpickler(pickle.Unpickler):
    """Knows what Python writes as literals, and what it is told."""

    def __init__(self, file: BinaryIO, known: Mapping[tuple[str, str], object], what: str) -> None:
        super().__init__(file)
        self._known, self._what = known, what

    def find_class(self, module: str, name: str) -> object:
        """What a name in the pickle stands for."""
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is no part of {self._what}"
            )
        return self._known[module, name]


def load_known(file: BinaryIO, known: Mapping[tuple[str, str], object], what: str) -> object:
    """The object of a pickle that names nothing but what is known.

    Args:
        file: At the start of the pickle.
        known: What the pickle may name, by module and name; literals need no name.
        what: What the known parts make up, for messages: `an array`.

    Raises:
        ValueError: If it names anything else, or is damaged; the message begins with "it" or the
            damage.

    Example:
        >>> import io
        >>> load_known(io.BytesIO(pickle.dumps({1: [0.5, "a", None]})), {}, "a literal")
        {1: [0.5, 'a', None]}
        >>> load_known(io.BytesIO(pickle.dumps(print)), {}, "a literal")
        Traceback (most recent call last):
        ValueError: it names builtins.print, which is no part of a literal
    """
    try:
        content = file.read()
        _check_memory(content)
        return _Unpickler(io.BytesIO(content), known, what).load()
    except _DAMAGED as error:
        raise ValueError(str(error) or f"it is damaged ({type(error).__name__})") from None


def _check_memory(content: bytes) -> None:
    """Refuses texts longer than the pickle, and places of its memo far beyond what it holds.

    The unpickler makes room for all places up to the last, and for a text before it is read.
    """
    steps = last = 0
    for opcode, argument, _ in pickletools.genops(content):
        steps += 1
        if opcode in _PUTS and isinstance(argument, int):
            last = max(last, argument)
    if last >= steps:
        raise ValueError(f"it puts something in place {last}, but has {steps} steps")
