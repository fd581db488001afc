"""Wheel and sdist of a checkout, built as a release is: sdist from its own files, wheel from that.

python -m fedhq.studies.distributions FOLDER
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..allocator.errors import FedHQError
from .uv_tool import run_uv

ROOT = Path(__file__).parents[1]
"""Of the checkout, if fedhq runs from one."""

PACKAGES = ("allocator", "fl_core", "models", "studies")
_BUILD_SECONDS = 600.0
_LEFT = re.compile(r"^\.|/\.|(^|/)(__pycache__|[^/]*\.egg-info)/|^(build|dist|runs)/")
"""Hidden, or made from the sources."""


@dataclass(frozen=True)
class Distributions:
    """What a release consists of.

    Args:
        wheel: Built from the sdist.
        sdist: The sources, with the tests.
    """

    wheel: Path
    sdist: Path


def build_distributions(root: Path, folder: Path) -> Distributions:
    """Builds the sdist from a checkout's own files and the wheel from the sdist.

    The wheel is built from these files, too, and must hold the same: else the sdist lacks
    something that the wheel needs.

    Args:
        root: The checkout; nothing is written into it.
        folder: Where both go; replaced if it is there.

    Raises:
        FedHQError: If `root` is no checkout, a build fails, or the wheels differ.
    """
    shutil.rmtree(folder, ignore_errors=True)
    sources = folder / "sources"
    copy_sources(root, sources)
    run_uv(["build", "--quiet", "--out-dir", folder, sources], _BUILD_SECONDS)
    run_uv(["build", "--quiet", "--wheel", "--out-dir", folder / "direct", sources], _BUILD_SECONDS)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    (direct,) = (folder / "direct").glob("*.whl")
    if differing := differences(wheel, direct):
        raise FedHQError(
            "`the sdist builds the same wheel` must hold, but these files differ: "
            f"{', '.join(differing)}. Add to MANIFEST.in what the sdist lacks."
        )
    return Distributions(wheel, sdist)


def copy_sources(root: Path, target: Path) -> None:
    """Copies the files of a checkout as they are now."""
    for name in source_files(root):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target / name)


def source_files(root: Path) -> list[str]:
    """Files of a checkout that git knows; without git all but hidden ones and what builds leave.

    Args:
        root: The checkout.

    Returns:
        Paths within it, sorted.

    Raises:
        FedHQError: If it is no checkout.
    """
    if not (root / "pyproject.toml").exists():
        raise FedHQError(f"{root} is no checkout of fedhq: run this from one.")
    try:
        command = ["git", "-C", str(root), "ls-files", "-z"]
        known = subprocess.run(command, capture_output=True, check=False).stdout
    except FileNotFoundError:  # no git
        known = b""
    names = [os.fsdecode(name) for name in known.split(b"\0") if name] or [
        path.relative_to(root).as_posix() for path in root.rglob("*")
    ]
    return sorted(name for name in names if (root / name).is_file() and not _LEFT.search(name))


def differences(wheel: Path, other: Path) -> list[str]:
    """Names of the files that only one of two wheels holds, or that differ, metadata included."""
    held, others = _held(wheel), _held(other)
    return sorted(name for name in held | others if held.get(name) != others.get(name))


def unpack_tests(sdist: Path, folder: Path) -> Path:
    """Unpacks an sdist without the packages, so that tests can import only what is installed.

    What is no part of the wheel and tested where it lies, `studies/optunahub`, stays.

    Returns:
        The folder with `tests` and `pyproject.toml`.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    for package in PACKAGES:
        for file in (root / package).rglob("*"):
            if file.is_file() and "optunahub" not in file.relative_to(root).parts:
                file.unlink()
    return root


def _held(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds both and names them.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser("python -m fedhq.studies.distributions", description=__doc__)
    parser.add_argument("folder", type=Path, help="where they go; replaced if it is there")
    try:
        built = build_distributions(ROOT, parser.parse_args(arguments).folder)
    except FedHQError as error:
        sys.exit(f"error: {error}")
    print(built.sdist, built.wheel, sep="\n")


if __name__ == "__main__":
    main()
