"""The parts of a search's report without figures: cards, the front's table, where it is from."""

from __future__ import annotations

import html
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from ....allocator.explain.quantities import number
from ...document import table
from ..record import SOURCES, TrialRecord
from . import words
from .preferences import Pick, Preference, picks
from .view import State, StudyView, TrialView

_MOST_ROWS = 60
_MOST_REASONS = 5
_PROPOSED = dict(
    zip(
        SOURCES,
        ("the sampler", "given: exact frontier", "given: uniform", "given: screened"),
        strict=True,
    )
)


def trial_command(place: str, trial: TrialView) -> str:
    """What prints a trial and plans it again.

    Args:
        place: Of its study, ready for a shell.
        trial: The trial.
    """
    return f"fedhq study report {place} --trial {trial.number}"


def cards(view: StudyView, preferences: Sequence[Preference], place: str) -> str:
    """The feasible best for each preference; those that pick the same trial share a card.

    Args:
        view: The study.
        preferences: The usual ones where empty.
        place: Where the study stands, ready for a shell.
    """
    heads: dict[int, list[str]] = {}
    nobody = ""
    for pick in picks(view, preferences):
        if pick.trial is None:
            nobody += _no_card(pick)
        else:
            heads.setdefault(pick.trial.number, []).append(pick.words)
    by_number = {t.number: t for t in view.trials}
    found = "".join(_card(view, by_number[n], names, place) for n, names in heads.items())
    return (
        "<h3 class=part>The feasible best, by what one prefers</h3>"
        f"<div class=cards>{found}{nobody}</div>\n"
    )


def _no_card(pick: Pick) -> str:
    head, why = html.escape(pick.words), html.escape(pick.why)
    return f"<article class=pick><h4>{head}</h4><p>No trial: {why}</p></article>"


def _card(view: StudyView, trial: TrialView, heads: Sequence[str], place: str) -> str:
    record = measured(trial)
    big = "<br>".join(
        f"{words.measure_text(record, name)} <small>{words.shown_name(view, name)}</small>"
        for name in view.traded
    )
    facts = {"proposed by": _proposed(trial), "clients": _who(record)}
    if record.bottleneck is not None:
        facts["slowest client"] = str(record.bottleneck)
    facts |= {key: words.value_text(value) for key, value in trial.params.items()}
    for name, limit in view.record.limits.items():
        facts[name] = f"{number(record.measures[name])}, at most {number(limit)}"
    if view.tradeoff is not None:
        facts["objective"] = f"{number(trial.values[0])} = {view.objective}"
    return (
        f"<article class=pick><h4>{html.escape('; '.join(heads))}</h4><p>trial {trial.number}</p>"
        f"<p class=big>{big}</p>{_facts(facts)}"
        f"<pre><code>{html.escape(trial_command(place, trial))}</code></pre></article>"
    )


def front_table(view: StudyView) -> str:
    """The trials of the front, by their first measure; of very many some from end to end."""
    places = view.front.tolist()
    step = -(-len(places) // _MOST_ROWS)
    trials = [view.trials[k] for k in places[::step]]
    rest = f" One in {step} of {len(places)} is listed." if step > 1 else ""
    spread = " ± is the standard deviation over seeds." if view.evaluated == "training" else ""
    params = list(dict.fromkeys(key for t in trials for key in t.params))
    measures = (words.shown_name(view, name) for name in view.traded)
    headings = ("trial", *measures, *params, "clients", "proposed by")
    first = words.name_of(view.axes[0])
    note = f"By {first}; clients in the first round of the first seed.{spread}{rest}"
    rows = [_row(view, trial, params) for trial in trials]
    return "<h3 class=part>The front</h3>" + table("Trials of the front", headings, rows, note)


def _row(view: StudyView, trial: TrialView, params: Sequence[str]) -> list[str]:
    cells = [str(trial.number)]
    cells += [words.measure_text(measured(trial), name) for name in view.traded]
    cells += [words.value_text(trial.params.get(key, "")) for key in params]
    return [html.escape(cell) for cell in (*cells, _who(measured(trial)), _proposed(trial))]


def origin(view: StudyView) -> str:
    """Where the figures come from: what ran, on what, and the whole configuration."""
    record = view.record
    seeds = sorted({s for t in view.trials if t.record for s in t.record.seeds})
    limits = ", ".join(f"{name} ≤ {number(value)}" for name, value in record.limits.items())
    facts = {
        "study": view.name,
        "minimised": view.objective,
        "limits": limits or "none",
        "trials": _trials(view),
        "seeds": ", ".join(map(str, seeds)) or "none",
        "configuration": f"digest {record.digest}",
        "made by": record.command,
        "ran on": "; ".join(map(_machine, record.provenance.values())) or "not recorded",
    }
    facts |= _failures(view)
    config = html.escape(json.dumps(record.config, indent=2))
    return (
        f"<h3 class=part>Where these figures come from</h3>{_facts(facts, 'facts')}<details>"
        f"<summary>The whole configuration</summary><pre><code>{config}</code></pre></details>\n"
    )


def _trials(view: StudyView) -> str:
    """How many trials there are in each state, and how many repeat others."""
    counts = {state: view.count(state) for state in State} | {State.FAIL: len(view.failures)}
    states = ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "none"
    lost = {t.number: t.lost for t in view.trials}
    repeated = Counter(words.repeats(lost[t.retry_of]) for t in view.trials if t.retry_of in lost)
    also = [
        f"{n} {'repeats one' if n == 1 else 'repeat ones'} {why}" for why, n in repeated.items()
    ]
    if needless := len(view.set_aside) - repeated.total():
        also.append(f"{needless} set aside: stopped, or not needed")
    return "; ".join([states, *also])


def _failures(view: StudyView) -> dict[str, str]:
    """The most frequent reasons of failed trials, with how many each has."""
    reasons = (t.reason or "no reason was recorded" for t in view.failures)
    often = Counter(reasons).most_common(_MOST_REASONS)
    return {f"failed, reason {k}": f"{n} trials: {why}" for k, (why, n) in enumerate(often, 1)}


def _machine(provenance: Mapping[str, object]) -> str:
    """Versions, commit and machine."""
    versions = provenance.get("versions")
    packages = versions.items() if isinstance(versions, Mapping) else ()
    commit = f" at {provenance['commit']}" if provenance.get("commit") else ""
    parts = (
        f"fedhq {provenance.get('fedhq')}{commit}",
        f"Python {provenance.get('python')}",
        *(f"{name} {version}" for name, version in packages),
        f"{provenance.get('system')}",
        f"{provenance.get('cores')} cores",
        f"{provenance.get('started')}",
    )
    return ", ".join(parts)


def _facts(facts: Mapping[str, str], kind: str = "") -> str:
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in facts.items()
    )
    return f"<dl{f' class={kind}' if kind else ''}>{rows}</dl>"


def measured(trial: TrialView) -> TrialRecord:
    """The record of a trial that has one, as every feasible one does."""
    assert trial.record is not None, "a feasible trial has measured"
    return trial.record


def place_text(place: str, name: str = "") -> str:
    """Where a study stands, ready for a shell.

    Example:
        >>> place_text("runs/my search", "two")
        "'runs/my search' --name two"
    """
    return shlex.quote(place) + (f" --name {shlex.quote(name)}" if name else "")


def _who(record: TrialRecord) -> str:
    return ", ".join(f"{n} {name}" for name, n in record.counts.items() if n)


def _proposed(trial: TrialView) -> str:
    return _PROPOSED.get(trial.source, trial.source)
