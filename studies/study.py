"""The command `fedhq study`: its parts, of which only the one that is asked for is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from .entry import run_command

HELP = "ablations of solvers, searches of policies, their dashboard and reports"

_COMMANDS = {
    "ablation": (".ablation.command", "solvers against each other over families of problems"),
    "headline": (".headline.command", "fedhq against what else one could do, in simulated time"),
    "search": (".search.command", "Optuna over the policy; resumes what stands in --out"),
    "dashboard": (".dashboard.command", "opens a search in Optuna's dashboard, on 127.0.0.1"),
    "report": (".search.report_command", "one static page of one search or several"),
    "validity": (".validity.command", "which data must do QAT: loss models on settings left out"),
    "proxy": (".search.proxy_command", "a gRPC proxy before a database, for many workers"),
}
_EXAMPLES = """examples:
  fedhq study ablation --out runs/ablation          the default grid; run it again to resume it
  fedhq study ablation my.toml --set 'grid.sizes=[10,100]'
  fedhq study headline --dry-run                    what it trains, and for how long
  fedhq study search demo --out runs/search         policies for the demo's federation
  fedhq study search my.toml --storage postgresql+psycopg://me@host/studies --workers 4
  fedhq study dashboard runs/search                 http://127.0.0.1:8080
  fedhq study validity --train-only --workers 2     trains its grid; run it again to resume it
  fedhq study report runs/search runs/other --out frontier.html
"""


def main(arguments: Sequence[str]) -> int:
    """Runs a part of `fedhq study`; returns the exit status."""
    chosen = next(iter(arguments), "")
    parser = argparse.ArgumentParser(
        prog="fedhq study",
        description=HELP[0].upper() + HELP[1:] + ".",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, says) in _COMMANDS.items():
        command = commands.add_parser(name, help=says)
        if name == chosen:
            import_module(module, __package__).add_arguments(command)
    return run_command(parser, arguments)
