"""The wheel in clean environments: every Python, oldest and newest dependencies.

    python -m fedhq.studies.matrix

Builds wheel and sdist of the checkout that it runs from, installs the wheel outside of it and runs
the sdist's tests there. A row that could not run, since its interpreter is missing or something
cannot be installed, did not pass. What pip is told by its environment (`PIP_FIND_LINKS`, ...) holds
here, too; `UV_CONSTRAINT` names a file of versions to keep to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..allocator.errors import FedHQError
from .distributions import ROOT, build_distributions
from .matrix_rows import Ages, Extent, Outcome, Result, rows, run_row
from .writing import write_at_once

PYTHONS = ("3.11", "3.12", "3.13")
COLUMNS = ("Python", "dependencies", "installed", "outcome", "tests", "versions", "seconds", "date")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the rows, prints their table, and exits with 1 unless all passed.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    options = _options(arguments)
    asked = rows(options.python, options.ages, options.extents, tuple(options.tests))
    results: list[Result] = []
    try:
        built = build_distributions(ROOT, options.folder / "dist")
        for row in asked:
            print(f"{row.name}: running", file=sys.stderr, flush=True)
            result = run_row(row, built, options.folder / row.name, options.timeout)
            print(f"{row.name}: {result.outcome}, {result.note}", file=sys.stderr, flush=True)
            results.append(result)
            if options.out is not None:
                write_at_once(options.out, table(results))
    except FedHQError as error:
        sys.exit(f"error: {error}")
    print(table(results), end="")
    passed = sum(result.outcome is Outcome.PASSED for result in results)
    print(f"{passed} of {len(asked)} rows passed")
    sys.exit(passed < len(asked))


def table(results: Sequence[Result]) -> str:
    """A Markdown table.

    Example:
        >>> from fedhq.studies.matrix_rows import Row
        >>> row = Row("3.13", Ages.NEWEST, Extent.CORE)
        >>> missing = Result(row, Outcome.MISSING, "no Python 3.13 on this machine")
        >>> print(table([missing]).splitlines()[-1].split(" |  |")[0])
        | 3.13 | newest | core | **missing** | no Python 3.13 on this machine
    """
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * 6 + "|---:|---|"]
    for result in results:
        row, mark = result.row, "" if result.outcome is Outcome.PASSED else "**"
        cells = (
            result.interpreter or row.python,
            row.ages,
            row.extent,
            f"{mark}{result.outcome}{mark}",
            result.note.replace("|", "/"),
            ", ".join(result.versions),
            f"{result.seconds:.0f}" if result.seconds else "",
            f"{datetime.now(UTC):%Y-%m-%d}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fedhq.studies.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--python", nargs="+", default=PYTHONS, metavar="X.Y", help=f"only these, of {PYTHONS}")
    add("--ages", nargs="+", type=Ages, choices=list(Ages), default=list(Ages), help="of versions")
    add(
        "--extents",
        nargs="+",
        type=Extent,
        choices=list(Extent),
        default=list(Extent),
        help="core: without extras, the allocator's tests; full: all that is fast",
    )
    add("--tests", nargs="+", default=(), metavar="PATH", help="only these tests")
    add(
        "--folder",
        type=Path,
        default=Path("runs/matrix"),
        help="where builds, environments and logs go (runs/matrix)",
    )
    add(
        "--timeout", type=float, default=3600.0, metavar="S", help="seconds of a row's tests (3600)"
    )
    add("--out", type=Path, metavar="FILE.md", help="the table")
    options = parser.parse_args(arguments)
    options.folder = options.folder.resolve()
    return options


if __name__ == "__main__":
    main()
