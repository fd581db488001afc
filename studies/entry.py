"""Where the command `fedhq` enters; it says what to install where packages are missing.

Heavy imports come late: `fedhq plan`, `fedhq watch`, `fedhq flower` and `fedhq study` never load
what only training needs.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

from ..allocator.errors import FedHQError

_PIPE_CLOSED = 141  # what a shell makes of SIGPIPE
_ALONE = {"plan": ".plan", "watch": ".watch", "flower": ".flower.command"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 2 where a package that it needs is not installed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and given[0] in _ALONE:
            return _run_alone(given[0], given[1:])
        if given[:1] == ["study"]:
            from .study import main as study

            return study(given[1:])
        from .cli import main as run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "fedhq":
            raise
        print(
            f"fedhq: error: the command needs {missing}, which is not installed; "
            f"run: pip install 'fedhq[{'flower' if given[:1] == ['flower'] else 'all'}]'",
            file=sys.stderr,
        )
        return 2
    return run(given)


def _run_alone(command: str, arguments: Sequence[str]) -> int:
    """Runs a command without loading what the others need."""
    parser = argparse.ArgumentParser(prog=f"fedhq {command}")
    import_module(_ALONE[command], __package__).add_arguments(parser)
    return run_command(parser, arguments)


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Runs the command that a parser finds; returns the exit status.

    A command's own status counts where it has one, else 0; a fault of the user's or the run's is
    told in one message and makes it 2.
    """
    options = parser.parse_args(arguments)
    options.given = f"{parser.prog} {shlex.join(arguments)}"
    try:
        status = options.command(options) or 0
        sys.stdout.flush()
        return status
    except (ValueError, FedHQError) as error:
        print(f"fedhq: error: {error}", file=sys.stderr)
    except BrokenPipeError:  # who read the output has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"fedhq: error: {place}{error.strerror or error}.", file=sys.stderr)
    except KeyboardInterrupt:
        resumes = "; the same command resumes where it was" if options.resumes else ""
        print(f"fedhq: stopped{resumes}.", file=sys.stderr)
        return 130
    return 2
