"""Virtual environments of programs that need other packages than fedhq's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..allocator.errors import FedHQError

_PINNED = ("torch", "numpy")
_MARK = "installed.json"


@dataclass(frozen=True)
class Environment:
    """What is installed beside torch and NumPy.

    Args:
        name: Of its folder.
        installs: Arguments of pip, a tuple for each call.
    """

    name: str
    installs: tuple[tuple[str, ...], ...]


def make_environment(environment: Environment, folder: Path, timeout_seconds: float) -> Path:
    """Makes an environment, unless it stands there as asked, with torch and NumPy as they are here.

    Args:
        environment: What it holds.
        folder: Where environments go, each in a folder of its name; pip's log lies beside it.
        timeout_seconds: How long one installation may take.

    Returns:
        Its interpreter.

    Raises:
        FedHQError: If something cannot be installed.
    """
    home = folder / environment.name
    interpreter = home / "bin" / "python"
    pins = {name: metadata.version(name).partition("+")[0] for name in _PINNED}
    mark = json.dumps([sys.version, pins, environment.installs])
    if (home / _MARK).exists() and (home / _MARK).read_text("utf-8") == mark:
        return interpreter
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{environment.name}.log"
    log.unlink(missing_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", str(home)], log, timeout_seconds)
    constraints = _write_constraints(folder, pins)
    pip = [str(interpreter), "-m", "pip", "install", "-c", str(constraints)]
    for arguments in (_PINNED, *environment.installs):
        _run([*pip, *arguments], log, timeout_seconds)
    (home / _MARK).write_text(mark, "utf-8")
    return interpreter


def _write_constraints(folder: Path, pins: Mapping[str, str]) -> Path:
    path = folder / "constraints.txt"
    path.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()), "utf-8")
    return path


def _run(command: list[str], log: Path, timeout_seconds: float) -> None:
    with log.open("ab") as file:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise FedHQError(f"not installed after {timeout_seconds:g} s; see {log}.") from None
    if code != 0:
        lines = log.read_text("utf-8", "replace").splitlines()
        errors = [line for line in lines if line.startswith("ERROR:")]
        why = errors[-1].removeprefix("ERROR:").strip() if errors else f"exit status {code}"
        raise FedHQError(f"cannot be installed: {why.rstrip('.')}; see {log}.")
