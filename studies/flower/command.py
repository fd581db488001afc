"""`fedhq flower`: keys, certificates and start scripts of a small Flower deployment."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from .check import check_folder
from .folder import add_node, prepare, renew
from .layout import Layout

_EXAMPLES = """examples:
  fedhq flower prepare hq --host hq.example.org --node kitchen --node garage
  fedhq flower prepare try --host 127.0.0.1 --node a --node b     all on this machine
  fedhq flower check hq                     what is expired, or soon will be; status 1 if so
  fedhq flower renew hq                     the same certificates, valid anew
  fedhq flower add hq --node attic          one node more

The folder's README.md says what goes to which machine, which port to open and what to protect.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the four commands and their options."""
    parser.description = (
        "Prepares a small deployment of Flower with TLS and authenticated nodes: a certificate "
        "authority, the SuperLink's certificate, a key pair for every SuperNode, scripts that "
        "start and register them, Flower's config.toml, and a README."
    )
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_prepare(commands.add_parser("prepare", help="write the folder; it must not exist"))
    check = commands.add_parser("check", help="say what is expired, missing or readable by others")
    check.add_argument(
        "--soon", type=int, default=30, metavar="DAYS",
        help="what ends within that many days counts too (default: %(default)s)",
    )  # fmt: skip
    check.set_defaults(command=_check)
    again = commands.add_parser("renew", help="sign all certificates anew; keys stay")
    again.set_defaults(command=_renew)
    more = commands.add_parser("add", help="add a node")
    more.add_argument("--node", required=True, metavar="NAME", help="a name, for instance attic")
    more.set_defaults(command=_add)
    for command in (again, more):
        _add_days(command)
    for command in (check, again, more):
        command.add_argument("folder", type=Path, help="a prepared folder")
        command.set_defaults(resumes=False)


def _add_prepare(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Writes the folder of a deployment. Nothing is started, and nothing leaves this machine."
    )
    command.add_argument("folder", type=Path, help="folder to write")
    command.add_argument(
        "--host", dest="hosts", action="append", required=True, metavar="HOST",
        help="name or IP address of the SuperLink's machine, in its certificate; repeatable: nodes "
        "and operators connect to the first",
    )  # fmt: skip
    command.add_argument(
        "--node", dest="nodes", action="append", required=True, metavar="NAME",
        help="a SuperNode, for instance kitchen; repeatable: the first is partition 0",
    )  # fmt: skip
    command.add_argument(
        "--port", type=int, default=8000, help="of the SuperLink (default: %(default)s)"
    )
    command.add_argument(
        "--runtime-port", type=int, default=9094, metavar="PORT",
        help="of the first node's runtime, on its own loopback; the others' follow "
        "(default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--listen", default="127.0.0.1", metavar="ADDRESS",
        help="where the SuperLink listens; 0.0.0.0 lets other machines in: who reaches it may "
        "start runs, so close the firewall first (default: %(default)s)",
    )  # fmt: skip
    _add_days(command)
    command.add_argument(
        "--ca-days", type=int, default=3650, metavar="DAYS",
        help="validity of the authority, the longest of any certificate (default: %(default)s)",
    )  # fmt: skip
    command.set_defaults(command=_prepare, resumes=False)


def _add_days(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--days", type=int, default=365, metavar="DAYS",
        help="validity of certificates (default: %(default)s)",
    )  # fmt: skip


def _prepare(options: argparse.Namespace) -> None:
    layout = Layout(
        hosts=tuple(options.hosts),
        nodes=tuple(options.nodes),
        port=options.port,
        runtime_port=options.runtime_port,
        listen=options.listen,
    )
    folder: Path = options.folder
    prepare(folder, layout, _now(), options.days, options.ca_days)
    print(
        f"prepared: {folder}\n"
        f"{layout.counted}, SuperLink {layout.address}, listening on {layout.listen}\n"
        f"certificates are valid for {options.days} days, node keys have no end\n"
        f"next: {folder / 'README.md'}"
    )


def _check(options: argparse.Namespace) -> int:
    findings = check_folder(options.folder, _now(), options.soon)
    for found in findings:
        mend = f": {found.mend}" if found.mend else ""
        print(f"{'WRONG' if found.mend else 'ok':5}  {found.place} {found.says}{mend}")
    return int(any(found.mend for found in findings))


def _renew(options: argparse.Namespace) -> None:
    renew(options.folder, _now(), options.days)
    print("renewed: copy superlink/server.pem and nodes/*/runtime.pem, and restart")


def _add(options: argparse.Namespace) -> None:
    add_node(options.folder, options.node, _now(), options.days)
    print(
        f"added: copy {options.folder / 'nodes' / options.node} to its machine, and register it: "
        f"operator/register.sh {options.node}\n"
        "every other node's start.sh tells how many nodes there are: copy it, too, and restart"
    )


def _now() -> datetime:
    return datetime.now(UTC)
