"""What `import fedhq.allocator` takes: `python -m fedhq.studies.bench_imports`.

Fresh processes take turns: one imports NumPy and SciPy, the next fedhq.allocator after them, then
what its first use needs. The figure is the median of the differences of pairs. On a machine that
does other things the processor's time (user and system) says more than the clock.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .benchmark import machine_line
from .goals import Goal
from .writing import write_at_once

_BEFORE = "import numpy, scipy"
_IMPORT_GOAL = Goal("clock", 150.0, "ms")
PROGRAMS = {
    "import fedhq.allocator": "import fedhq.allocator",
    "from fedhq.fl_core import FederationSettings": "from fedhq.fl_core import FederationSettings",
    "import scipy.sparse (part of SciPy; the first program for HiGHS loads it)": (
        "import scipy.sparse"
    ),
}


@dataclass(frozen=True)
class Taken:
    """What a process took.

    Args:
        clock_seconds: From its start to its end.
        processor_seconds: User and system time.
    """

    clock_seconds: float
    processor_seconds: float


def take(code: str) -> Taken:
    """Runs code in a fresh process.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(seconds, used)


def beyond(code: str, pairs: int) -> list[Taken]:
    """What code takes beyond importing NumPy and SciPy, by pairs of processes.

    Args:
        code: Run after these imports.
        pairs: How many; one more goes before, which writes compiled files.

    Returns:
        A difference for each pair; noise may make one negative.
    """
    found = []
    for _ in range(pairs + 1):
        bare, whole = take(_BEFORE), take(f"{_BEFORE}\n{code}")
        found.append(
            Taken(
                whole.clock_seconds - bare.clock_seconds,
                whole.processor_seconds - bare.processor_seconds,
            )
        )
    return found[1:]


def run(pairs: int) -> str:
    """Measures all programs and returns Markdown.

    Args:
        pairs: Of processes, for each program.
    """
    lines = [f"# Imports\n\n{machine_line()}\n\n{(__doc__ or '').partition(chr(10) * 2)[2]}"]
    lines += ["| beyond NumPy and SciPy | clock, median | least | processor, median | least |"]
    lines += ["|---|---:|---:|---:|---:|"]
    verdict = ""
    for name, code in PROGRAMS.items():
        found = beyond(code, pairs)
        clock = [1e3 * taken.clock_seconds for taken in found]
        used = [1e3 * taken.processor_seconds for taken in found]
        figures = (statistics.median(clock), min(clock), statistics.median(used), min(used))
        lines.append(f"| {name} | {' | '.join(f'{figure:.0f} ms' for figure in figures)} |")
        verdict = verdict or f"\n`{name}`: {_IMPORT_GOAL.judge(statistics.median(clock))}."
    return "\n".join([*lines, verdict, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and writes it if asked.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser("python -m fedhq.studies.bench_imports", description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, metavar="N", help="of processes (15)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="the table")
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        parser.error(f"`pairs >= 1` must hold, but got {options.pairs}.")
    text = run(options.pairs)
    if options.out is not None:
        write_at_once(options.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()
