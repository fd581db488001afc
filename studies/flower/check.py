"""Whether a prepared folder can be deployed: certificates valid, keys theirs and kept secret."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .certificates import belongs_to, expiry, hosts_of, is_signed_by
from .layout import Layout

_RENEW = "run `fedhq flower renew`, copy the certificates, restart"
_NEW_FOLDER = "prepare a new folder, and replace all copies of ca.pem"


@dataclass(frozen=True)
class Finding:
    """What was found out about a file.

    Args:
        place: The file, relative to the folder.
        says: What holds.
        mend: What to do about it; empty where nothing is wrong.
    """

    place: str
    says: str
    mend: str = ""


def check_folder(folder: Path, now: datetime, soon_days: int) -> list[Finding]:
    """All findings of a folder, in the order of its files.

    Args:
        folder: A prepared folder, whole.
        now: When validity is asked for.
        soon_days: What ends within that many days counts as wrong already.

    Raises:
        ValueError: If it is no prepared folder.
    """
    layout = Layout.read(folder)
    authority = folder / "ca" / "ca.pem"
    findings = list(_check_validity(folder, authority, now, soon_days, _NEW_FOLDER))
    if not findings[0].mend:
        findings += _check_key(folder, authority.with_suffix(""))
    pairs = [folder / "superlink" / "server"]
    pairs += [folder / "nodes" / node / "runtime" for node in layout.nodes]
    for pair in pairs:
        certificate = pair.with_suffix(".pem")
        valid = list(_check_validity(folder, certificate, now, soon_days, _RENEW))
        findings += valid
        if authority.is_file() and certificate.is_file() and not valid[0].mend:
            findings += _check_pair(folder, pair, authority)
    findings += _check_hosts(folder, layout)
    secrets = [pair.with_suffix(".key") for pair in pairs]
    if authority.with_suffix(".key").is_file():  # it may be kept elsewhere
        secrets.append(authority.with_suffix(".key"))
    secrets += [folder / "nodes" / node / "node.key" for node in layout.nodes]
    for secret in secrets:
        findings += _check_secret(folder, secret)
    return findings


def _check_validity(
    folder: Path, path: Path, now: datetime, soon_days: int, mend: str
) -> Iterator[Finding]:
    place = str(path.relative_to(folder))
    if not path.is_file():
        yield Finding(place, "is not there", "restore it, or prepare a new folder")
        return
    try:
        ends = expiry(path.read_bytes())
    except ValueError as error:
        yield Finding(place, f"is no certificate: {error}", "restore it")
        return
    if ends <= now:
        yield Finding(place, f"expired on {ends:%Y-%m-%d %H:%M} UTC", mend)
    elif (ends - now).days < soon_days:
        yield Finding(place, f"ends within {soon_days} days, on {ends:%Y-%m-%d}", mend)
    else:
        yield Finding(place, f"is valid until {ends:%Y-%m-%d}")


def _check_pair(folder: Path, pair: Path, authority: Path) -> Iterator[Finding]:
    certificate = pair.with_suffix(".pem")
    if not is_signed_by(certificate.read_bytes(), authority.read_bytes()):
        yield Finding(str(certificate.relative_to(folder)), "is not signed by ca/ca.pem", _RENEW)
    yield from _check_key(folder, pair)


def _check_key(folder: Path, pair: Path) -> Iterator[Finding]:
    certificate, key = pair.with_suffix(".pem"), pair.with_suffix(".key")
    try:
        fits = not key.is_file() or belongs_to(key.read_bytes(), certificate.read_bytes())
    except ValueError:
        fits = False
    if not fits:
        place = str(certificate.relative_to(folder))
        yield Finding(place, f"is not the certificate of {key.name}", "restore both")


def _check_hosts(folder: Path, layout: Layout) -> Iterator[Finding]:
    path = folder / "superlink" / "server.pem"
    try:
        named = hosts_of(path.read_bytes())
    except (OSError, ValueError):
        return  # told above
    missing = [host for host in layout.certified if host not in named]
    if missing:
        yield Finding(
            "superlink/server.pem", f"does not name {', '.join(missing)}", "prepare a new folder"
        )


def _check_secret(folder: Path, path: Path) -> Iterator[Finding]:
    place = str(path.relative_to(folder))
    if not path.is_file():
        yield Finding(place, "is not there", "restore it, or keep it where it is used")
    elif path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(path.stat().st_mode)
        yield Finding(place, f"can be read by others (mode {mode:04o})", f"chmod 600 {place}")
