"""Makes what the dashboard adds to a search, from the search's own records."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...allocator import FedHQError
from ..search.report.details import Details, notable_trials
from ..search.report.plans import Planned, Planner
from ..search.report.report import write_report
from ..search.report.trial_text import has_runs, trial_config, trial_of
from ..search.report.view import StudyView, TrialView
from ..toml_text import toml_text
from .additions import Additions
from .allocation_table import allocation_csv
from .files import File, Files
from .notes import noted_trials, study_note, trial_note
from .plots import figures

if TYPE_CHECKING:
    import optuna


class Composer:
    """Makes notes, figures and files of a search.

    Args:
        study: The search in its storage.
        planner: Plans its policies again.
        place: Of the search, as commands name it.
        best_is_feasible: Whether the dashboard's card of best trials keeps to feasible ones.
        extra: Further figures, by id.
    """

    def __init__(
        self,
        study: optuna.Study,
        planner: Planner,
        place: str,
        best_is_feasible: bool,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self._study, self._planner, self._place = study, planner, place
        self._best_is_feasible = best_is_feasible
        self._extra = extra or {}
        self._details = Details(place=place)
        self._planned: tuple[int, ...] = ()
        self._has_runs = has_runs(StudyView.of(study))

    def first(self) -> Additions:
        """What the records tell at once; nothing is planned again."""
        return self._additions(StudyView.of(self._study))

    def all(self) -> Additions:
        """Everything; planning again takes a while, and longest the first time."""
        view = StudyView.of(self._study)
        notable = tuple(t.number for t in notable_trials(view))
        if notable != self._planned:  # the same trials are planned the same
            self._details = Details.of(self._study, view, self._place, self._planner)
            self._planned = notable
        return self._additions(view)

    def files(self) -> Files:
        """The search's report and configuration; of every trial its allocation and its run."""
        of_study = (File("report.html", self._report), File("search.toml", self._config))
        return Files(of_study, self._of_trial)

    def _additions(self, view: StudyView) -> Additions:
        storage, key = self._study._storage, self._study._study_id
        notes = {
            storage.get_trial_id_from_study_id_trial_number(key, view.trials[place].number): (
                trial_note(view, view.trials[place], what, self._place)
            )
            for place, what in noted_trials(view).items()
        }
        note = study_note(view, key, self._best_is_feasible)
        return Additions(note, notes, {**figures(view, self._details), **self._extra})

    def _of_trial(self, number: int) -> Sequence[File]:
        allocation = File("allocation.csv", lambda: self._allocation(number))
        if not self._has_runs:
            return (allocation,)
        return allocation, File("run.toml", lambda: self._run(number))

    def _allocation(self, number: int) -> bytes:
        trial = TrialView.of(self._study.get_trials(deepcopy=False)[number])
        if trial.record is None:
            return b""
        return allocation_csv(trial.record, self._plan(trial))

    def _run(self, number: int) -> bytes:
        view = StudyView.of(self._study)
        return trial_config(view, trial_of(view, number)).encode()

    def _plan(self, trial: TrialView) -> Planned | None:
        """What the trial's policy decides; None where it cannot be planned again."""
        assert trial.record is not None, "the caller has looked"
        if not trial.params:
            return None
        try:
            return self._planner.plan(trial.params, trial.record.seeds[0])
        except (FedHQError, ValueError, OSError):
            return None

    def _report(self) -> bytes:
        view = StudyView.of(self._study)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            write_report(path, [view], [self._details], f"fedhq study report {self._place}")
            return path.read_bytes()

    def _config(self) -> bytes:
        return toml_text(StudyView.of(self._study).record.config).encode()
