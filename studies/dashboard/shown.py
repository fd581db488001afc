"""A storage as the dashboard shows it: what a study holds, and our additions beside it.

Nothing of ours is written into the study. So a search that runs is not disturbed, its journal does
not grow with every look, several dashboards cannot get in each other's way, and a storage that may
only be read does as well. What people do in the dashboard (notes of their own, deleting) goes
through to the storage.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from ..search.record import TRIAL_KEY
from .additions import Additions
from .attributes import study_attributes, trial_attributes
from .files import Files
from .mends import is_feasible, shows_named_constraints

_ARTIFACT = "artifacts:"  # as `optuna.artifacts.upload_artifact` names its attributes
_LEGACY_CONSTRAINTS = "constraints"  # the list that Optuna kept before it knew names


class ShownStorage(BaseStorage):
    """Passes everything on to a storage, and adds to what one of its studies says.

    Trials get the list of constraints that optuna-dashboard knows (it does not know Optuna 5's
    named ones), a readable record, and files; the study gets notes, figures and files.

    Args:
        storage: The study's.
        study_id: The study that gets additions; all others are shown as they are.
        files: What is offered beside what people uploaded.
    """

    def __init__(self, storage: BaseStorage, study_id: int, files: Files) -> None:
        self._storage = storage
        self._study_id = study_id
        self._files = files
        self._additions = Additions()
        self._finished: dict[int, FrozenTrial] = {}
        self._lists_constraints = not shows_named_constraints()

    def show(self, additions: Additions) -> None:
        """Shows these notes and figures from now on."""
        self._additions = additions

    def get_all_studies(self) -> list[FrozenStudy]:
        """All studies, one of them with our additions."""
        return [self._shown_study(study) for study in self._storage.get_all_studies()]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The study's own and our notes, figures and files."""
        own = self._storage.get_study_system_attrs(study_id)
        return self._system_attributes(own) if study_id == self._study_id else own

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """The study's own, the record of a search in a form that one can read."""
        return study_attributes(self._storage.get_study_user_attrs(study_id))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial as it is shown."""
        return copy.deepcopy(self._shown_trial(self._storage.get_trial(trial_id)))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """All trials as they are shown."""
        trials = self._storage.get_all_trials(study_id, deepcopy=False, states=states)
        shown = [self._shown_trial(trial) for trial in trials]
        return copy.deepcopy(shown) if deepcopy else shown

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The best trial of those that keep all limits; of all where none does."""
        complete = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        feasible = [trial for trial in complete if is_feasible(trial)]
        if not feasible:
            return self._storage.get_best_trial(study_id)
        (direction,) = self.get_study_directions(study_id)
        pick = max if direction == StudyDirection.MAXIMIZE else min
        return pick(feasible, key=lambda trial: trial.values[0])

    def _shown_study(self, study: FrozenStudy) -> FrozenStudy:
        shown = copy.copy(study)
        shown.user_attrs = study_attributes(study.user_attrs)
        if study._study_id == self._study_id:
            shown.system_attrs = self._system_attributes(study.system_attrs)
        return shown

    def _system_attributes(self, own: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._artifacts(None), **self._additions.over(own)}

    def _artifacts(self, trial: int | None) -> dict[str, str]:
        listed = self._files.listed(trial).items()
        return {_ARTIFACT + key: json.dumps(file.as_artifact(key)) for key, file in listed}

    def _shown_trial(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial with constraints, record and files; of a finished one it is kept."""
        known = self._finished.get(trial._trial_id)
        if known is not None:
            return known
        shown = copy.copy(trial)
        shown.user_attrs = trial_attributes(trial.user_attrs)
        added: dict[str, Any] = {}
        if self._lists_constraints:
            added[_LEGACY_CONSTRAINTS] = list(trial.constraints.values())
        if TRIAL_KEY in trial.user_attrs:
            added |= self._artifacts(trial.number)
        shown.system_attrs = {**added, **trial.system_attrs}
        if trial.state.is_finished():
            self._finished[trial._trial_id] = shown
        return shown

    # From here on all is passed on as it is.

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """As the storage does."""
        return self._storage.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """As the storage does."""
        self._storage.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._storage.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._storage.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        """As the storage does."""
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """As the storage does."""
        return self._storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """As the storage does."""
        return self._storage.get_study_directions(study_id)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As the storage does."""
        return self._storage.create_new_trial(study_id, template_trial)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """As the storage does."""
        self._storage.set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As the storage does."""
        return self._storage.set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """As the storage does."""
        self._storage.set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._storage.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._storage.set_trial_system_attr(trial_id, key, value)

    def remove_session(self) -> None:
        """As the storage does."""
        self._storage.remove_session()
