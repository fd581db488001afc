"""Where trained runs are kept: a line each, so that a study resumes and studies share."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...fl_core.processes import forking_context
from ...fl_core.runtime import set_up_worker
from ..writing import write_at_once
from .lines import append_lines, whole_lines
from .spec import RunSpec
from .training import TrainedRun, train_run

RUNS_FILE = "runs.jsonl"
RECORDED = Path(__file__).with_name("recorded") / "runs.jsonl.gz"
"""The runs that fedhq's own records were made from."""


class RunStore:
    """The runs of a folder; what stands there is never trained again.

    Several processes may work with one folder at a time: each takes up what it finds when it looks.

    Args:
        folder: Holds `RUNS_FILE`; it is made if it is missing.
        recorded: Files of runs, compressed like `RECORDED`, that are taken up, too, and never
            written.

    Example:
        >>> import tempfile
        >>> from .tasks import task_settings
        >>> settings = task_settings("digits-mlp", alpha=0.3, bits=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     RunStore(Path(folder)).find(RunSpec(settings, (("skip",) * 20,))) is None
        True
    """

    def __init__(self, folder: Path, recorded: Iterable[Path] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._path = folder, folder / RUNS_FILE
        self._runs: dict[str, TrainedRun] = {}
        self._read = 0
        for path in recorded:
            self._take(gzip.decompress(path.read_bytes()))

    def __len__(self) -> int:
        self._look()
        return len(self._runs)

    def record(self, path: Path) -> None:
        """Writes all runs into one compressed file; the same runs are the same bytes.

        Args:
            path: The file, such as another store takes as `recorded`.
        """
        self._look()
        lines = "".join(_line(self._runs[key]) for key in sorted(self._runs))
        write_at_once(path, gzip.compress(lines.encode(), mtime=0))

    def find(self, spec: RunSpec) -> TrainedRun | None:
        """The trained run of a spec; None where there is none yet."""
        if spec.key not in self._runs:
            self._look()
        return self._runs.get(spec.key)

    def missing(self, specs: Iterable[RunSpec]) -> list[RunSpec]:
        """The specs that are not trained yet, each once, in an order that trains them fast."""
        self._look()
        left = {spec.key: spec for spec in specs if spec.key not in self._runs}
        return sorted(left.values(), key=lambda spec: repr(spec.settings))

    def train(
        self,
        specs: Sequence[RunSpec],
        workers: int,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[TrainedRun]:
        """Trains what is not trained yet, in processes; each run is kept as soon as it is done.

        Args:
            specs: The runs.
            workers: Processes.
            on_progress: Told after every run how many of the missing ones are done, and of how
                many.

        Returns:
            `(specs,)` their runs.

        Raises:
            FedHQError: If a run fails; those that were done before are kept.
        """
        left = self.missing(specs)
        context = forking_context(train_run.__module__)
        if left:
            pool = ProcessPoolExecutor(workers, context, initializer=_set_up)
            strangers = set(multiprocessing.active_children())
            try:
                done = as_completed([pool.submit(train_run, spec) for spec in left])
                for number, future in enumerate(done, start=1):
                    self._keep(future.result())
                    if on_progress is not None:
                        on_progress(number, len(left))
            except BaseException:  # most of all Ctrl-C: what is not done yet is trained next time
                for worker in set(multiprocessing.active_children()) - strangers:
                    worker.terminate()
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        self._look()
        return [self._runs[spec.key] for spec in specs]

    def _keep(self, run: TrainedRun) -> None:
        append_lines(self._path, _line(run))
        self._look()

    def _look(self) -> None:
        """Takes up what was written since the last look, by whomever."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]  # another process may be writing the rest
        self._take(whole)
        self._read += len(whole)

    def _take(self, content: bytes) -> None:
        for told in whole_lines(content):
            curves: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in told.items()
            }
            run = TrainedRun(**curves)
            self._runs.setdefault(run.key, run)


def _line(run: TrainedRun) -> str:
    return json.dumps(asdict(run), separators=(",", ":")) + "\n"


def _set_up() -> None:
    """A worker leaves Ctrl-C to its parent, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_worker()
