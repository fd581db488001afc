"""One trial in words, planned again, and as a configuration of its own."""

from __future__ import annotations

from dataclasses import replace

from ....allocator import FedHQError
from ....allocator.explain.quantities import number
from ...config import RunConfig, resolved
from ...toml_text import toml_text
from ..config.settings import parse_search
from ..config.space import CLIENTS, is_client
from .plans import Planner, TrialPlan, plan_trials
from .view import StudyView, TrialView
from .words import censored, repeats

_WIDTH = 14


def trial_of(view: StudyView, trial_number: int) -> TrialView:
    """The trial of a number.

    Raises:
        ValueError: If the study has none.
    """
    for trial in view.trials:
        if trial.number == trial_number:
            return trial
    there = f"0 ... {view.trials[-1].number}" if view.trials else "none yet"
    raise ValueError(
        f"--trial {trial_number}: the study {view.name!r} has no such trial; its trials: {there}."
    )


def trial_text(view: StudyView, trial: TrialView, planner: Planner) -> str:
    """A trial's record, and whether its policy still decides the same.

    Args:
        view: Its study.
        trial: The trial.
        planner: Plans it again; its errors are told.

    Returns:
        Lines of text.
    """
    fit = "feasible" if trial.is_feasible else f"breaks {', '.join(trial.broken)}"
    stands = f"{trial.state}, {fit}" if trial.is_feasible or trial.broken else str(trial.state)
    lines = [f"trial {trial.number} of {view.name}: {stands}"]
    lines.append(_line("proposed by", trial.source))
    if trial.retry_of is not None:
        why = repeats(trial_of(view, trial.retry_of).lost)
        lines.append(_line("repeats", f"trial {trial.retry_of}, {why}"))
    if trial.reason:
        lines.append(_line("reason", trial.reason))
    lines += [_line("policy", f"{key} = {value}") for key, value in trial.params.items()]
    record = trial.record
    if record is None:
        return "\n".join(lines)
    for name, value in record.shown.items():
        own = [number(seed[name]) for seed in record.per_seed if name in seed]
        each = f" ({', '.join(own)})" if len(own) > 1 else ""
        limit = view.record.limits.get(name)
        most = "" if limit is None else f", at most {number(limit)}"
        text = censored(record, name) or f"{number(value)}{each}"
        lines.append(_line("measured", f"{name} = {text}{most}"))
    counts = ", ".join(f"{n} {name}" for name, n in record.counts.items())
    slowest = "none takes part" if record.bottleneck is None else record.bottleneck
    lines.append(_line("clients", f"{counts}; the slowest: {slowest}"))
    lines.append(_line("seeds", ", ".join(map(str, record.seeds))))
    made = view.record.provenance.get(record.provenance, {})
    lines.append(_line("recorded by", f"fedhq {made.get('fedhq', '?')} {made.get('commit', '')}"))
    lines.append(_line("planned again", _again(trial, planner)))
    return "\n".join(lines)


def _line(name: str, text: str) -> str:
    return f"  {name:{_WIDTH}} {text}"


def _again(trial: TrialView, planner: Planner) -> str:
    """What the policy decides now, against the record."""
    try:
        plans = plan_trials(planner, [trial])
    except (FedHQError, ValueError, OSError) as error:
        return f"not possible: {error}"
    return _compared(trial, plans[0]) if plans else "no allocation keeps its limits now"


def _compared(trial: TrialView, plan: TrialPlan) -> str:
    allocation = plan.solution.allocation
    now = f"{allocation.round_seconds:.6g} s, predicted loss {allocation.loss:.6g}; "
    if plan.agrees:
        return now + "every client does what was recorded"
    recorded = trial.record
    assert recorded is not None, "only recorded trials are planned again"
    before, after = recorded.strategies, plan.strategies
    if before.keys() != after.keys():
        return now + f"of {len(after)} clients, which are not the {len(before)} recorded ones"
    others = sum(before[c] != after[c] for c in before)
    return now + f"{others} of {len(before)} clients do other than was recorded"


def has_runs(view: StudyView) -> bool:
    """Whether `trial_config` can tell the trials of a study as runs."""
    config = view.record.config
    return "problem" not in config and CLIENTS not in config["search"].get("space", {})


def trial_config(view: StudyView, trial: TrialView) -> str:
    """A trial's policy as the TOML of a run, with its first seed: `fedhq run` repeats it.

    Raises:
        ValueError: If there is no run, as in searches of a table of clients, or no configuration
            says what the trial does, as where it names every client's strategy.
    """
    if any(map(is_client, trial.params)):
        raise ValueError(
            f"--config: trial {trial.number} names the strategy of every client, which no "
            "configuration of a run can. Leave --config out."
        )
    config = parse_search(view.record.config).with_values(trial.params)
    if not isinstance(config, RunConfig):
        raise ValueError(
            f"--config: trial {trial.number} plans a table of clients, which cannot be trained. "
            "Leave --config out."
        )
    seed = trial.record.seeds[0] if trial.record else config.federation.seed
    run = replace(config, federation=replace(config.federation, seed=seed))
    head = f"# Trial {trial.number} of the study {view.name}, seed {seed}: fedhq run THIS_FILE\n"
    return head + toml_text(resolved(run))
