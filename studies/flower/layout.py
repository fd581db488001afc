"""What a deployment is made from: its hosts, nodes and ports, checked; kept as JSON."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

SETTINGS_FILE = "deployment.json"
MOST_NODES = 1000
_NODE = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


@dataclass(frozen=True)
class Layout:
    """A deployment's shape.

    Args:
        hosts: Names or addresses of the SuperLink, all in its certificate; nodes and operators
            connect to the first.
        nodes: Names of the SuperNodes; a node's place is its partition.
        port: Where the SuperLink listens.
        runtime_port: Of the first node's own runtime, on loopback; the next nodes take the next.
        listen: The address on which the SuperLink listens.

    Raises:
        ValueError: If a name, host or port cannot be.

    Example:
        >>> Layout(("hq.example.org",), ("kitchen", "garage")).address
        'hq.example.org:8000'
    """

    hosts: tuple[str, ...]
    nodes: tuple[str, ...]
    port: int = 8000
    runtime_port: int = 9094
    listen: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if not self.hosts:
            raise ValueError("`a deployment has a host` must hold, but none is given: --host NAME.")
        for host in self.hosts:
            check_host(host)
        if not _is_address(self.listen):
            raise ValueError(
                f"`--listen` must be an IP address, but got {self.listen!r}. Take 127.0.0.1, or "
                "0.0.0.0 for all interfaces."
            )
        self._check_nodes()
        last = self.runtime_port + len(self.nodes) - 1
        for option, port in (("--port", self.port), ("--runtime-port", last)):
            if not 1 <= port <= 65535:
                raise ValueError(f"`1 <= {option} <= 65535` must hold, but got {port}.")
        if self.runtime_port <= self.port <= last:
            raise ValueError(
                f"`--port` = {self.port} must lie outside the nodes' {self.runtime_port} ... "
                f"{last}, since nodes may run on the same machine. Take another --runtime-port."
            )

    def _check_nodes(self) -> None:
        if not 1 <= len(self.nodes) <= MOST_NODES:
            raise ValueError(
                f"`1 <= nodes <= {MOST_NODES}` must hold, but got {len(self.nodes)}: --node NAME."
            )
        for node in self.nodes:
            if not _NODE.fullmatch(node):
                raise ValueError(
                    f"`--node` must be at most 40 of a-z, 0-9 and -, neither first nor last a -, "
                    f"but got {node!r}. It names a folder."
                )
            if self.nodes.count(node) > 1:
                raise ValueError(
                    f"`nodes have different names` must hold, but {node!r} comes twice."
                )

    @property
    def address(self) -> str:
        """Where nodes and operators find the SuperLink."""
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def certified(self) -> tuple[str, ...]:
        """All hosts of the certificate: the SuperLink asks itself too, where it listens.

        Example:
            >>> Layout(("hq.example.org",), ("a",), listen="0.0.0.0").certified
            ('hq.example.org', '127.0.0.1')
        """
        itself = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.listen, self.listen)
        return tuple(dict.fromkeys((*self.hosts, itself)))

    @property
    def counted(self) -> str:
        """How many nodes there are, in words."""
        return "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"

    def with_node(self, node: str) -> Self:
        """The layout with one node more."""
        return replace(self, nodes=(*self.nodes, node))

    def to_json(self) -> str:
        """Its text in a file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The layout of a prepared folder.

        Raises:
            ValueError: If it is none.
        """
        path = folder / SETTINGS_FILE
        if not path.is_file():
            raise ValueError(
                f"`{folder}` must be a folder of `fedhq flower prepare`, but it holds no "
                f"{SETTINGS_FILE}."
            )
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                hosts=tuple(map(str, held["hosts"])),
                nodes=tuple(map(str, held["nodes"])),
                port=int(held["port"]),
                runtime_port=int(held["runtime_port"]),
                listen=str(held["listen"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} must be as `fedhq flower prepare` wrote it, but: {error!r}. Restore it."
            ) from error


def check_host(host: str) -> None:
    """Refuses what is neither a host's name nor an IP address.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> check_host("https://hq.example.org")  # doctest: +NORMALIZE_WHITESPACE
        Traceback (most recent call last):
            ...
        ValueError: `--host` must be a name or an IP address, without scheme, port or path, but got
        'https://hq.example.org'.
    """
    labels = host.split(".")
    looks_numeric = labels[-1].isdigit()  # such names are read as addresses
    is_name = len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    if not (_is_address(host) or (is_name and not looks_numeric)):
        raise ValueError(
            "`--host` must be a name or an IP address, without scheme, port or path, but got "
            f"{host!r}."
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
