"""`fedhq watch`: shows how a run stands, from another terminal, by its records alone.

Needs only rich and what the allocator needs, so it starts without torch.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from ..fl_core.records.follow import FollowedRound, RunFollower
from ..fl_core.records.recorder import ROUNDS_FILE
from ..fl_core.records.records import RoundRecord
from .watch_view import Snapshot, round_line, view

HELP = "show how a run stands while another process trains it"
_CONFIG_FILE = "config.json"
_PACE_ROUNDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options of the command, and what it does."""
    parser.description = (
        "Shows rounds, accuracy, bytes, clients and pace of a run as its records grow; ends with "
        "the run, or with Ctrl-C, and changes nothing. Where the output is no terminal, prints a "
        "line of key=value for every round instead."
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of `fedhq run`, or of one run of a comparison"
    )
    parser.add_argument("--once", action="store_true", help="show what is there now, and end")
    parser.add_argument(
        "--every",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks (default: %(default)g)",
    )
    parser.set_defaults(command=run, resumes=False)


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        ValueError: If the folder holds no run, or `--every` is no time.
        CheckpointError: If a record is damaged.
    """
    if not 0 < options.every < math.inf:
        raise ValueError(f"--every {options.every:g}: must be above 0 and finite.")
    _check_folder(options.run)
    watched, console = WatchedRun(options.run), Console()
    try:
        if not console.is_terminal:
            _print_rounds(watched, options.every, options.once)
        elif options.once:
            watched.update()
            console.print(view(watched.snapshot(), console.options.ascii_only))
        else:
            _show_live(watched, options.every, console)
    except KeyboardInterrupt:  # whoever has seen enough leaves the run as it is
        return


def _check_folder(folder: Path) -> None:
    if (folder / ROUNDS_FILE).exists():
        return
    config = _read_json(folder / _CONFIG_FILE)
    if "runs" in config:
        raise ValueError(
            f"{folder} must be the folder of a run, but holds a comparison. Name one of its runs: "
            f"{folder}/SCENARIO/ARM/seed-0."
        )
    if not config:
        raise ValueError(
            f"{folder} must be the folder of a run, but has neither {ROUNDS_FILE} nor "
            f"{_CONFIG_FILE}. Begin one with `fedhq run`, or check the path."
        )


@dataclass(frozen=True)
class RunEnd:
    """When a run is complete.

    Args:
        rounds: Of the whole run; None where no configuration says.
        stop_at_accuracy: Deployed accuracy with which it ends before; None without one.
    """

    rounds: int | None = None
    stop_at_accuracy: float | None = None

    @classmethod
    def read(cls, folder: Path) -> RunEnd:
        """Reads it from the run's configuration, or from its comparison's."""
        config = _read_json(folder / _CONFIG_FILE) or _config_in_comparison(folder)
        training = config.get("training", {})
        return cls(training.get("rounds"), training.get("stop_at_accuracy"))

    def is_reached(self, record: RoundRecord) -> bool:
        """Whether a round was the last."""
        enough, accuracy = self.stop_at_accuracy, record.deployed_accuracy
        is_enough = enough is not None and accuracy is not None and accuracy >= enough
        return is_enough or (self.rounds is not None and record.round >= self.rounds)


class WatchedRun:
    """What is known of a run by its records.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.end = RunEnd()
        self.rounds: list[RoundRecord] = []
        self._latest: deque[FollowedRound] = deque(maxlen=_PACE_ROUNDS)
        self._follower = RunFollower(folder)

    @property
    def is_complete(self) -> bool:
        """Whether its last round is recorded."""
        return bool(self.rounds) and self.end.is_reached(self.rounds[-1])

    def update(self) -> None:
        """Reads what is new."""
        for _ in self.news():
            pass

    def news(self) -> Iterator[FollowedRound]:
        """Reads what is new, and gives it round by round."""
        if self.end.rounds is None:  # a run writes its configuration a moment after its folder
            self.end = RunEnd.read(self.folder)
        for followed in self._follower.new_rounds():
            number = followed.record.round
            while self.rounds and self.rounds[-1].round >= number:  # it was resumed before
                self.rounds.pop()
            while self._latest and self._latest[-1].record.round >= number:
                self._latest.pop()
            self.rounds.append(followed.record)
            self._latest.append(followed)
            yield followed

    def snapshot(self) -> Snapshot:
        """How it stands now."""
        return Snapshot(
            name=str(self.folder),
            rounds_total=self.end.rounds,
            is_complete=self.is_complete,
            rounds=tuple(self.rounds),
            clients=self._latest[-1].clients if self._latest else (),
            round_wall_seconds=self._pace(),
            idle_seconds=max(0.0, time.time() - (self.folder / ROUNDS_FILE).stat().st_mtime)
            if self.rounds
            else None,
        )

    def _pace(self) -> float | None:
        """Wall seconds of a round, as the mean over the latest."""
        walls = [followed.wall for followed in self._latest]
        seconds = [
            w.plan_seconds
            + w.train_seconds
            + w.server_seconds
            + w.evaluate_seconds
            + w.save_seconds
            for w in walls
            if w is not None
        ]
        return math.fsum(seconds) / len(seconds) if seconds else None


def _config_in_comparison(folder: Path) -> dict[str, Any]:
    """Of a run in the folder `scenario/arm/seed-N` of a comparison."""
    place = folder.resolve()
    if len(place.parents) < 3:
        return {}
    for entry in _read_json(place.parents[2] / _CONFIG_FILE).get("runs", []):
        if (entry["scenario"], entry["arm"], f"seed-{entry['seed']}") == place.parts[-3:]:
            return dict(entry["configuration"])
    return {}


def _read_json(path: Path) -> dict[str, Any]:
    """Empty where the file is missing, or written just now."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _print_rounds(watched: WatchedRun, every: float, once: bool) -> None:
    while True:
        for followed in watched.news():
            print(round_line(followed, watched.end.rounds), flush=True)
        if once or watched.is_complete:
            return
        time.sleep(every)


def _show_live(watched: WatchedRun, every: float, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            watched.update()
            live.update(view(watched.snapshot(), console.options.ascii_only), refresh=True)
            if watched.is_complete:
                return
            time.sleep(every)
