"""The program `uv`, which makes environments and resolves to the oldest versions, told what pip is.

What the environment says to pip (index, links, certificate) holds for uv, unless it is told apart.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..allocator.errors import FedHQError

_SAME = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
}
_TOLD_LINES = 5


def uv_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which uv finds what pip finds, and downloads no interpreter.

    Example:
        >>> uv_variables({"PIP_FIND_LINKS": "a b", "PIP_INDEX_URL": "c", "UV_DEFAULT_INDEX": "d"})
        ... # doctest: +NORMALIZE_WHITESPACE
        {'UV_PYTHON_DOWNLOADS': 'never', 'UV_DEFAULT_INDEX': 'd', 'UV_FIND_LINKS': 'a,b',
         'PIP_FIND_LINKS': 'a b', 'PIP_INDEX_URL': 'c'}
    """
    told = {"UV_PYTHON_DOWNLOADS": "never"}
    told |= {uv: environment[pip] for pip, uv in _SAME.items() if pip in environment}
    if links := environment.get("PIP_FIND_LINKS", "").split():
        told["UV_FIND_LINKS"] = ",".join(links)  # pip parts them by spaces
    return {**told, **environment}


def run_uv(arguments: Sequence[str | Path], timeout_seconds: float) -> str:
    """Runs uv, apart from the environment that this process runs in.

    Args:
        arguments: Of uv.
        timeout_seconds: How long it may take.

    Returns:
        What it wrote on its output.

    Raises:
        FedHQError: If uv is missing, fails or takes too long: with the end of what it says.
    """
    if (program := find_uv()) is None:
        raise FedHQError("uv is not installed: pip install uv")
    command = [program, *map(str, arguments)]
    variables = uv_variables(os.environ)
    for name in ("VIRTUAL_ENV", "PYTHONPATH"):
        variables.pop(name, None)
    try:
        done = subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FedHQError(f"`uv {arguments[0]}` took more than {timeout_seconds:g} s.") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-_TOLD_LINES:]
        raise FedHQError(f"`uv {' '.join(map(str, arguments[:2]))}` failed: {' '.join(last)}")
    return done.stdout


def find_uv() -> str | None:
    """The program of the package that is installed here, or one on the path; None without any."""
    try:
        from uv import find_uv_bin
    except ImportError:
        return shutil.which("uv")
    return find_uv_bin()
