"""Keeps trained runs of folders as those that ship: `python -m fedhq.studies.runs FOLDER`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .store import RECORDED, RUNS_FILE, RunStore


def main() -> None:
    """Adds the runs of the folders to `RECORDED`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of studies")
    for folder in parser.parse_args().folders:
        if not (folder / RUNS_FILE).exists():
            parser.error(f"{folder} must hold {RUNS_FILE}, but does not.")
        store = RunStore(folder, [RECORDED] if RECORDED.exists() else [])
        store.record(RECORDED)
        print(f"{len(store)} runs in {RECORDED}")


if __name__ == "__main__":
    main()
