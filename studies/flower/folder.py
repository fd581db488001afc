"""The folder of a deployment: prepared whole or not at all, and what is added to it later."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from . import texts
from .certificates import (
    Pair,
    belongs_to,
    expiry,
    make_authority,
    make_node_keys,
    make_server,
    renew_server,
)
from .layout import SETTINGS_FILE, Layout

_LOOPBACK = ("127.0.0.1", "localhost")  # where a node's own runtime is asked


def prepare(folder: Path, layout: Layout, now: datetime, days: int, ca_days: int) -> None:
    """Writes keys, certificates, scripts and a README.

    Args:
        folder: Where; it must not exist.
        layout: Hosts, nodes, ports.
        now: Start of all validity.
        days: Validity of the certificates of the SuperLink and of the nodes' runtimes.
        ca_days: Validity of the authority's, and so the longest that others may have.

    Raises:
        ValueError: If the folder exists, or a validity cannot be.
    """
    if folder.exists() or folder.is_symlink():
        raise ValueError(
            f"`{folder}` must not exist, since keys are never overwritten. Take another folder, or "
            "move it away; `add` and `renew` change a prepared one."
        )
    if not 1 <= days <= ca_days <= 36500:
        raise ValueError(
            f"`1 <= --days <= --ca-days <= 36500` must hold, but got {days} and {ca_days}: a "
            "certificate cannot outlast who signed it."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))  # mode 0700
    try:
        authority = make_authority(f"fedhq CA of {layout.hosts[0]}", now, ca_days)
        _write_pair(made / "ca" / "ca", authority)
        _write(made / SETTINGS_FILE, layout.to_json())
        superlink = made / "superlink"
        _write(superlink / "ca.pem", authority.certificate)
        _write_pair(superlink / "server", make_server(authority, layout.certified, now, days))
        _write(superlink / "start.sh", texts.superlink_script(layout), 0o700)
        operator = made / "operator"
        _write(operator / "ca.pem", authority.certificate)
        _write(operator / "config.toml", texts.flower_config(layout, folder / "operator"))
        _write(operator / "register.sh", texts.register_script(), 0o700)
        for node in layout.nodes:
            _write_node(made, layout, node, authority, now, days)
        _write_readme(made, layout)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made)
        raise


def add_node(folder: Path, node: str, now: datetime, days: int) -> None:
    """Adds a node to a prepared folder.

    Raises:
        ValueError: If it is there already, its name cannot be, or the authority is not whole or
            ends before its certificate.
    """
    layout = Layout.read(folder).with_node(node)
    authority = read_authority(folder, now, days)
    _write_node(folder, layout, node, authority, now, days)
    for other in layout.nodes:  # all are told how many there are
        _write(folder / "nodes" / other / "start.sh", texts.node_script(layout, other), 0o700)
    _write(folder / SETTINGS_FILE, layout.to_json())
    _write_readme(folder, layout)


def renew(folder: Path, now: datetime, days: int) -> None:
    """Signs the certificates of the SuperLink and of all runtimes anew.

    Raises:
        ValueError: If the authority is not whole, or ends before them: then only a new folder
            helps.
    """
    layout = Layout.read(folder)
    authority = read_authority(folder, now, days)
    places = [folder / "superlink" / "server.pem"]
    places += [folder / "nodes" / node / "runtime.pem" for node in layout.nodes]
    renewed = [renew_server(authority, _read_certificate(place), now, days) for place in places]
    for place, certificate in zip(places, renewed, strict=True):
        _write(place, certificate)
    _write_readme(folder, layout)


def read_authority(folder: Path, now: datetime, days: int) -> Pair:
    """The authority of a prepared folder, if it is whole and outlasts what it is to sign."""
    place = folder / "ca" / "ca.key"
    certificate = _read_certificate(place.with_suffix(".pem"))
    key = _read_file(place)
    try:
        fits = belongs_to(key, certificate)
    except ValueError as error:
        raise ValueError(
            f"{place} must be a private key as PEM without password, but: {error}. Restore it."
        ) from error
    if not fits:
        raise ValueError(
            f"`{place}` must be the key of ca.pem, but is another's: nobody would trust what it "
            "signs. Restore the key that was made with this folder."
        )
    authority = Pair(certificate, key)
    left = (expiry(certificate) - now).days
    if not 1 <= days <= left:
        raise ValueError(
            f"`1 <= --days <= {left}` must hold, the days that the authority is still valid, but "
            f"got {days}. Take fewer, or prepare a new folder and replace all copies of ca.pem."
        )
    return authority


def _read_certificate(path: Path) -> bytes:
    certificate = _read_file(path)
    try:
        expiry(certificate)
    except ValueError as error:
        raise ValueError(
            f"{path} must be a certificate as PEM, but: {error}. Restore it."
        ) from error
    return certificate


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(
            f"`{path}` must be there to sign certificates, but is not. Bring it back from where it "
            "is kept."
        )
    return path.read_bytes()


def _write_node(
    folder: Path, layout: Layout, node: str, authority: Pair, now: datetime, days: int
) -> None:
    place = folder / "nodes" / node
    keys = make_node_keys()
    _write(place / "ca.pem", authority.certificate)
    _write(place / "node.key", keys.private, 0o600)
    _write(place / "node.pub", keys.public)
    _write_pair(place / "runtime", make_server(authority, _LOOPBACK, now, days))
    _write(place / "start.sh", texts.node_script(layout, node), 0o700)
    _write(folder / "operator" / "nodes" / f"{node}.pub", keys.public)


def _write_readme(folder: Path, layout: Layout) -> None:
    ends = expiry((folder / "superlink" / "server.pem").read_bytes())
    ca_ends = expiry((folder / "ca" / "ca.pem").read_bytes())
    _write(folder / "README.md", texts.readme(layout, ends, ca_ends))


def _write_pair(stem: Path, pair: Pair) -> None:
    _write(stem.with_suffix(".key"), pair.key, 0o600)
    _write(stem.with_suffix(".pem"), pair.certificate)


def _write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Writes a file that is never readable by more than its mode says, not even for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.new")
    data = content.encode() if isinstance(content, str) else content
    fresh.unlink(missing_ok=True)  # of a command that was killed; its mode may be another
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    fresh.replace(path)
