"""The programs that are compared, and how many lines their users write."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from ..environments import Environment
from .task import NETWORK_VARIABLE

_FOLDER = Path(__file__).parent
_KEEPS_MEMORY = {  # to glibc what `set_up_process` tells it by mallopt
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}
_SPACE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


@dataclass(frozen=True)
class Program:
    """One way to train the task.

    Args:
        name: At the command line and in records.
        title: In the table.
        file: The program's, in this folder.
        launcher: Arguments of the interpreter before the file.
        arguments: Arguments after it.
        variables: Of its environment.
        environment: What it needs beside torch; None where it runs where fedhq is installed.
        note: What a reader must know.
    """

    name: str
    title: str
    file: str
    launcher: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    environment: Environment | None = None
    note: str = ""

    @property
    def path(self) -> Path:
        """Its file."""
        return _FOLDER / self.file

    def command(self, interpreter: Path | None) -> list[str]:
        """How it is started.

        Args:
            interpreter: Of its environment; None for this process' own.
        """
        start = sys.executable if interpreter is None else str(interpreter)
        return [start, *self.launcher, str(self.path), *self.arguments]


PROGRAMS = (
    Program("bare", "bare PyTorch loop, 2 processes", "bare_loop.py", arguments=("2",)),
    Program(
        "bare-kept",
        "bare loop, 2 processes, freed memory kept",
        "bare_loop.py",
        arguments=("2",),
        variables=_KEEPS_MEMORY,
        note="with fedhq's setting of malloc",
    ),
    Program(
        "bare-ours",
        "bare loop, 2 processes, freed memory kept, fedhq's network",
        "bare_loop.py",
        arguments=("2",),
        variables={**_KEEPS_MEMORY, NETWORK_VARIABLE: "fedhq"},
        note="what fedhq's network alone gains; the same bits",
    ),
    Program("bare-1", "bare loop, 1 process", "bare_loop.py", arguments=("1",)),
    Program("fedhq", "fedhq, 2 workers", "in_fedhq.py", arguments=("2", "float32")),
    Program(
        "fedhq-bf16",
        "fedhq, 2 workers, bfloat16",
        "in_fedhq.py",
        arguments=("2", "bfloat16"),
        note="weights and their sums in float32",
    ),
    Program("fedhq-1", "fedhq, 1 process", "in_fedhq.py", arguments=("1", "float32")),
    Program(
        "flower",
        "Flower, 2 Ray actors",
        "in_flower.py",
        variables={
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        environment=Environment("flower", (("flwr[simulation]==1.42.0",),)),
        note="flwr 1.42.0",
    ),
    Program(
        "pfl",
        "pfl-research, 2 workers",
        "in_pfl.py",
        launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        environment=Environment("pfl", (("pfl[pytorch]==0.6.0",),)),
        note="pfl 0.6.0",
    ),
    Program(
        "blazefl",
        "BlazeFL, 2 threads",
        "in_blazefl.py",
        # It asks for Python 3.12 but runs on 3.11; its dependencies must suit the interpreter.
        environment=Environment(
            "blazefl",
            (("tqdm",), ("--no-deps", "--ignore-requires-python", "blazefl==2.0.3")),
        ),
        note="blazefl 2.0.3, made for Python without a GIL",
    ),
)
"""The first is what the others are compared with."""


def count_lines(source: str) -> int:
    r"""Lines of a program with code: not blank, no comment, no docstring.

    Example:
        >>> count_lines('# A comment.\n\nx = (1,\n    2)  # two lines\n')
        2
    """
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SPACE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                lines.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)
