"""The notes of a search and of the trials that matter, as Markdown that the dashboard shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...allocator.explain.quantities import number
from ..search.record import TrialRecord
from ..search.report.parts import trial_command
from ..search.report.preferences import picks
from ..search.report.view import StudyView, TrialView
from ..search.report.words import (
    censored,
    measure_text,
    name_of,
    shown_name,
    spread,
    unit_of,
    value_text,
    verdict,
)
from .attributes import counts_text, limits_text

_MOST_OF_FRONT = 30
_MOST_LETTERS = 120
_HOW = {
    "model": "in the allocation program's own predictions",
    "training": "by training a federation with it, on a simulated clock",
}
_SHOWS = """The figures between *Timeline* and *Best Trials* are fedhq's. Grey points break a limit.
Notes, figures and files are shown by this dashboard and made anew as trials finish; nothing of them
is written into the study. What you write into this note replaces it, until you empty it.
"""
_TRUST = """**Do not trust the card *Best Trials*:** the installed optuna-dashboard lists infeasible
trials there too. The table above names feasible ones only.
"""


def study_note(view: StudyView, study_id: int, best_is_feasible: bool) -> str:
    """What a search is, what came of it, and how to make it again.

    Args:
        view: The search.
        study_id: Its own in the storage, for links.
        best_is_feasible: Whether the dashboard's card of best trials keeps to feasible ones.
    """
    record = view.record
    parts = [
        f"# {_plain(view.name)}",
        f"Policies for **{record.clients} clients**: which of them skips, trains in floats, or "
        f"trains for low precision. Each trial is one policy, measured {_HOW[view.evaluated]}. "
        f"Minimised: **{_plain(view.objective)}**; limits: {_plain(limits_text(record.limits))}.",
        f"**{_plain(verdict(view).strip())}**",
        _best_table(view, study_id),
        "" if best_is_feasible else _TRUST,
        _SHOWS,
        f"## How to make it again\n\n{_code(record.command)}",
        f"Configuration {record.digest[:16]}, whole in `search.toml` among the study's artifacts. "
        + "; ".join(_ran_on(machine) for machine in record.provenance.values()),
    ]
    return "\n\n".join(part for part in parts if part)


def noted_trials(view: StudyView) -> dict[int, tuple[str, ...]]:
    """The trials that get a note, by their place in the view, with what they are.

    Those that somebody may want (the feasible best of the usual preferences), the front (at most
    30, from end to end), and the arms that everything is measured against.
    """
    what: dict[int, list[str]] = {}
    front = view.front.tolist()
    chosen = np.linspace(0, len(front) - 1, min(len(front), _MOST_OF_FRONT)).round()
    for place in (front[int(k)] for k in chosen):
        what.setdefault(place, []).append("on the front")
    places = {trial.number: place for place, trial in enumerate(view.trials)}
    for pick in picks(view):
        if pick.trial is not None:
            what.setdefault(places[pick.trial.number], []).append(pick.words)
    for place, trial in enumerate(view.trials):
        if trial.source == "uniform" and trial.record is not None:
            what.setdefault(place, []).append("uniform: all clients do the same")
    return {place: tuple(words) for place, words in sorted(what.items())}


def trial_note(view: StudyView, trial: TrialView, what: Sequence[str], place: str) -> str:
    """What a trial is, whether it keeps the limits, what its clients do, and how to run it.

    Args:
        view: The search.
        trial: One with a record.
        what: What it is, in some words each.
        place: Of the search, for the command: a folder or a storage's address.
    """
    record = trial.record
    assert record is not None, "only trials with a record get a note"
    rows = [(name_of(name), _measured(record, name)) for name in record.shown]
    rows += [(f"limit of {_plain(name)}", _kept(v)) for name, v in trial.constraints.items()]
    slowest = "nobody takes part" if record.bottleneck is None else f"client {record.bottleneck}"
    rows += [
        ("clients", counts_text(record.counts)),
        ("who is waited for", slowest),
        ("decided by", f"{_short(record.solver)}, {record.status}{_gap(record.gap)}"),
        ("seeds", ", ".join(map(str, record.seeds))),
        ("configuration", f"{record.digest}, run on {record.provenance}"),
        *((key, value_text(value)) for key, value in trial.params.items()),
    ]
    kept = "It keeps every limit." if trial.is_feasible else "It breaks a limit."
    head = f"**{_plain('; '.join(what))}**. {kept if trial.constraints else ''}".strip()
    return "\n\n".join([head, _table(("", ""), rows), _code(trial_command(place, trial))])


def _best_table(view: StudyView, study_id: int) -> str:
    """The feasible best of every usual preference."""
    rows = []
    for pick in picks(view):
        if pick.trial is None or pick.trial.record is None:
            continue
        number, record = pick.trial.number, pick.trial.record
        link = f"{number} ([open](/dashboard/studies/{study_id}/trials?numbers={number}))"
        texts = (measure_text(record, name) for name in view.traded)
        rows.append((pick.words, link, *texts, counts_text(record.counts)))
    names = (shown_name(view, name) for name in view.traded)
    return _table(("if you want", "trial", *names, "clients"), rows) if rows else ""


def _measured(record: TrialRecord, name: str) -> str:
    """The mean over the seeds, and what they differ by."""
    if told := censored(record, name):
        return told
    deviation = spread(record, name)
    text = unit_of(name).text(record.measures[name])
    return text if not deviation else f"{text} ± {number(deviation)}"


def _kept(value: float) -> str:
    return "kept" if value <= 0 else f"**broken** (by {number(value)})"


def _short(text: str) -> str:
    """A solver's settings may hold whole arrays."""
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} ..."


def _gap(gap: float | None) -> str:
    return "" if not gap else f", gap {number(gap)}"


def _ran_on(machine: Mapping[str, object]) -> str:
    """Versions and commit in a line."""
    versions = machine.get("versions")
    packages = versions.items() if isinstance(versions, Mapping) else ()
    commit = f" at {machine['commit']}" if machine.get("commit") else ""
    return f"fedhq {machine.get('fedhq')}{commit}, " + ", ".join(f"{k} {v}" for k, v in packages)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in r) + " |" for r in lines
    )


def _code(text: str) -> str:
    """A block as it is; longer fences than the text has."""
    fence = "`" * (3 if "```" not in text else 8)
    return f"{fence}\n{text}\n{fence}"


def _plain(text: str) -> str:
    """A text in which Markdown marks stand for themselves."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in text)
