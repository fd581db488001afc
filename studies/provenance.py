"""Where a figure comes from: versions, commit and machine, noted beside every record."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

_GIT_SECONDS = 10.0
_NUMERIC = ("numpy", "scipy")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Provenance:
    """What a study ran on.

    Args:
        fedhq: Version of the package.
        commit: Of the checkout that the package runs from, `+` behind it where files were changed;
            empty where it is installed from a wheel.
        versions: Of the packages that the figures depend on, by name; those not installed are
            missing.
        python: Version of the interpreter.
        system: Operating system and architecture.
        processor: Model of the processor, as the system calls it; may be empty.
        cores: Of the machine.
        started: Time in UTC, ISO 8601.
    """

    fedhq: str
    commit: str
    versions: dict[str, str]
    python: str
    system: str
    processor: str
    cores: int
    started: str

    @property
    def key(self) -> str:
        """A short digest of all but the time: the same for all processes that are alike."""
        return _digest({**asdict(self), "started": ""})

    @property
    def machine(self) -> str:
        """The machine in words."""
        told = (self.processor, self.system, f"{self.cores} core{'' if self.cores == 1 else 's'}")
        return ", ".join(filter(None, told))

    @property
    def speed_key(self) -> str:
        """A short digest of what times depend on beside the code: machine, Python, NumPy, SciPy.

        Example:
            >>> from dataclasses import replace
            >>> here = Provenance.here()
            >>> replace(here, commit="abc").speed_key == here.speed_key
            True
            >>> replace(here, processor="abacus").speed_key == here.speed_key
            False
        """
        libraries = [self.versions.get(name) for name in _NUMERIC]
        return _digest([self.machine, self.python, *libraries])

    @classmethod
    def here(cls, packages: Sequence[str] = ()) -> Provenance:
        """That of this process, now.

        Args:
            packages: Names of packages whose versions are noted beside NumPy's and SciPy's.

        Example:
            >>> here = Provenance.here(["optuna", "no_such_package"])
            >>> sorted(here.versions)
            ['numpy', 'optuna', 'scipy']
        """
        return cls(
            fedhq=metadata.version("fedhq"),
            commit=_commit(),
            versions={
                name: version
                for name in (*_NUMERIC, *packages)
                if (version := _version(name)) is not None
            },
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
            processor=_processor(),
            cores=os.cpu_count() or 1,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def _digest(told: object) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


@cache
def _processor() -> str:
    """The model's name: Python knows it on some systems only, Linux in a file."""
    try:
        lines = _CPUINFO.read_text("utf-8", errors="replace").splitlines()
    except OSError:  # another system
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _commit() -> str:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # not a checkout of ours, perhaps inside of somebody else's
        return ""
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    return commit + ("+" if commit and _git(root, "status", "--porcelain") else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
