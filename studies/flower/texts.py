"""Scripts, configuration and README of a prepared folder, as text."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from .layout import Layout

SUPERLINK = "deployment"
"""Name of the SuperLink in Flower's configuration."""

_HEAD = """#!/usr/bin/env bash
# {what}
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
export FLWR_HOME="$PWD{home}"
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 # nothing is told to third parties
"""

_SUPERLINK = """umask 077
# The database keeps registrations over a restart. Apps are never installed from the network.
exec flower-superlink \\
    --host {listen} --port {port} \\
    --ssl-ca-certfile ca.pem --ssl-certfile server.pem --ssl-keyfile server.key \\
    --enable-supernode-auth --database superlink.db \\
    --disable-runtime-dependency-installation "$@"
"""

_NODE = """umask 077
# An app finds what it imports in this Python, or fails: nothing is installed for it.
exec flower-supernode \\
    --superlink {address} --root-certificates ca.pem \\
    --auth-supernode-private-key node.key \\
    --host 127.0.0.1 --port {port} \\
    --ssl-ca-certfile ca.pem --ssl-certfile runtime.pem --ssl-keyfile runtime.key \\
    --node-config 'partition-id={place} num-partitions={count} client-name="{name}"' "$@"
"""

_REGISTER = """# Without names: all nodes.
if (($# == 0)); then
    set -- nodes/*.pub
fi
for node in "$@"; do
    node="${{node#nodes/}}"
    flwr supernode register "nodes/${{node%.pub}}.pub" {superlink}
done
"""

_README = """# A Flower deployment of {counted}

Made by `fedhq flower prepare`. SuperLink: {address}, listening on {listen}.

| folder | goes to | holds |
|---|---|---|
| `superlink/` | the machine {host} | certificate and key of the SuperLink, `start.sh` |
| `nodes/NAME/` | that node's machine | its key pair, its runtime's certificate, `start.sh` |
| `operator/` | who starts runs | Flower's `config.toml`, public keys of the nodes, `register.sh` |
| `ca/` | nobody: keep it offline | the key that signs certificates |

Copy each folder whole, over a channel that nobody reads (`scp -rp` keeps the modes).

## Start

    superlink/start.sh                                # on {host}
    operator/register.sh                              # once; `register.sh NAME` for one node
    nodes/{first}/start.sh                            # on every node's machine
    FLWR_HOME="$PWD/operator" flwr run APP {superlink} --stream

Register before a node starts: one that is not registered is refused, and ends. `config.toml`
holds the absolute path of `operator/ca.pem`; mend it where the folder is moved. Python, `flwr` and
whatever the app imports must be installed on every machine beforehand.

## Open

- On {host}: TCP {port}, to the nodes and to operators, and to nobody else. It is the only port.
- On the nodes: nothing. They connect out; their runtime's port is on 127.0.0.1.

The SuperLink listens on {listen}. {listening}

## Protect

- **Whoever reaches port {port} may start runs**, and a run is code that every node executes: TLS
  proves who the server is and node keys prove who a node is, but operators prove nothing. Let a
  firewall or a VPN decide who reaches it, or a proxy that passes `/v1/fleet/` only.
  `start.sh --trusted-entities FILE` makes a node refuse apps that are not signed by a key that it
  names.
- `ca/ca.key`: who has it can pose as the SuperLink. Only `renew` and `add` need it.
- `nodes/NAME/node.key`: who has it can pose as that node. One key for one machine.
- `superlink/server.key` stays on {host}; `superlink/superlink.db` holds registrations and runs.

All keys are readable by their owner only (mode 0600), and not encrypted.

## Expiry

Certificates of the SuperLink and the runtimes end on **{ends}**, the authority's on **{ca_ends}**.
Node keys have no end. `fedhq flower check FOLDER` says what is expired or soon will be;
`fedhq flower renew FOLDER` signs the same certificates anew (keys stay): copy
`superlink/server.pem` and `nodes/*/runtime.pem`, and restart.

## Add and revoke

    fedhq flower add FOLDER --node NAME               # then copy nodes/NAME, and register it
    # every other node's start.sh tells how many nodes there are: copy it, too, and restart
    FLWR_HOME="$PWD/operator" flwr supernode list {superlink}
    FLWR_HOME="$PWD/operator" flwr supernode unregister NODE_ID {superlink}

A node whose key may be in other hands: unregister it, then `add` one of another name. A stolen CA
or server key: prepare a new folder, and replace all copies of `ca.pem`.
"""

_LOOPBACK = (
    "Only this machine reaches it: start it with another `--host` "
    "(`superlink/start.sh --host 0.0.0.0`), or lead a proxy or tunnel to it."
)
_OUTSIDE = "Other machines reach it, as far as the firewall lets them."


def superlink_script(layout: Layout) -> str:
    """What starts the SuperLink."""
    head = _HEAD.format(what="Starts the SuperLink.", home="/home")
    return head + _SUPERLINK.format(listen=layout.listen, port=layout.port)


def node_script(layout: Layout, node: str) -> str:
    """What starts a SuperNode."""
    place = layout.nodes.index(node)
    return _HEAD.format(what=f"Starts the SuperNode {node}.", home="/home") + _NODE.format(
        address=layout.address,
        port=layout.runtime_port + place,
        place=place,
        count=len(layout.nodes),
        name=node,
    )


def register_script() -> str:
    """What makes nodes known to the SuperLink."""
    head = _HEAD.format(what="Registers nodes at the SuperLink.", home="")
    return head + _REGISTER.format(superlink=SUPERLINK)


def flower_config(layout: Layout, operator: Path) -> str:
    """Flower's `config.toml`; its paths must be absolute."""
    certificate = json.dumps(str(operator.absolute() / "ca.pem"))
    return (
        f'[superlink]\ndefault = "{SUPERLINK}"\n\n[superlink.{SUPERLINK}]\n'
        f'address = "{layout.address}"\nroot-certificates = {certificate}\n'
    )


def readme(layout: Layout, ends: datetime, ca_ends: datetime) -> str:
    """What to open, what to protect, what ends when."""
    return _README.format(
        counted=layout.counted,
        address=layout.address,
        host=layout.hosts[0],
        listen=layout.listen,
        port=layout.port,
        first=layout.nodes[0],
        superlink=SUPERLINK,
        listening=_LOOPBACK if layout.listen in ("127.0.0.1", "::1") else _OUTSIDE,
        ends=f"{ends:%Y-%m-%d}",
        ca_ends=f"{ca_ends:%Y-%m-%d}",
    )
