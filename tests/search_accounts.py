"""Whether all trials of a study are accounted for."""

from pathlib import Path

import optuna
from optuna.trial import TrialState


def check_accounts(study: optuna.Study, total: int, evaluations: Path) -> None:
    """Nothing lost, nothing counted twice, and just as many as asked for."""
    trials = study.get_trials()
    assert [t.number for t in trials] == list(range(len(trials)))
    done = [t for t in trials if t.state is TrialState.COMPLETE]
    assert len(done) == total
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    retries = {}
    for trial in trials:
        if (number := trial.user_attrs.get("retry_of")) is not None:
            retries.setdefault(number, []).append(trial)
    for trial in trials:
        if trial.state is TrialState.FAIL:
            assert trial.user_attrs["reason"]
            assert trial.values is None
        is_lost = "lost" in trial.user_attrs and trial.params and not is_twin(trial)
        twins = [t for t in retries.get(trial.number, []) if not is_twin(t)]
        assert len(twins) == (1 if is_lost else 0)
        for twin in twins:  # the same again
            shared = trial.params.keys() & twin.params.keys()
            assert {k: twin.params[k] for k in shared} == {k: trial.params[k] for k in shared}
    ended = [int(path.name.split(".")[0]) for path in evaluations.glob("*.ended")]
    begun = [int(path.name.split(".")[0]) for path in evaluations.glob("*.begun")]
    assert len(ended + begun) == len(set(ended + begun)), "a trial was evaluated twice"
    assert {t.number for t in done} <= set(ended)


def is_twin(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.user_attrs.get("lost") == "twin"
