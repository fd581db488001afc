"""Commands that work at a study, to be killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

RUN = """
import sys
from functools import partial
from fedhq.studies.search.workers.pool import Order, run_order
import search_objectives
if __name__ == "__main__":
    place, folder, trials, workers, seconds, first = sys.argv[1:]
    make = partial(search_objectives.make_square, folder, float(seconds))
    run_order(Order(place, "s", make, int(trials), 5.0, int(first)), int(workers))
"""


def start_command(
    folder: Path, place: str, trials: int, workers: int, seconds: float, first: int = 0
) -> subprocess.Popen:
    """Works in a process of its own, which has a session of its own."""
    script = folder / "run.py"
    script.write_text(RUN, "utf-8")
    tests = str(Path(__file__).parent)
    path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = [place, evaluations(folder), trials, workers, seconds, first]
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def evaluations(folder: Path) -> Path:
    path = folder / "evaluations"
    path.mkdir(exist_ok=True)
    return path


def wait_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begun_by(folder: Path) -> set[int]:
    """Processes that are amid a trial."""
    return {int(path.name.split(".")[1]) for path in evaluations(folder).glob("*.begun")}


def kill_two_of_four(place: str, folder: Path) -> None:
    """Works with four workers, of which two are killed amid a trial."""
    command = start_command(folder, place, trials=24, workers=4, seconds=0.3)
    for _ in range(2):
        wait_for(lambda: begun_by(folder))
        victim = min(begun_by(folder))
        os.kill(victim, signal.SIGKILL)
        for path in evaluations(folder).glob(f"*.{victim}.begun"):
            path.rename(path.with_suffix(".killed"))
    assert command.wait(timeout=120) == 0, command.stderr.read()
    command.stderr.close()
    assert len(list(evaluations(folder).glob("*.killed"))) >= 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
