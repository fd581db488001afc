"""Where the figures of an ablation's page come from: command, files, versions, commit, machine."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib import metadata

from ..document import table
from ..provenance import Provenance
from . import words
from .end_to_end import END_TO_END_FILE, EndToEnd
from .record import CELLS_FILE
from .summary import Summary


def origin_text(
    summary: Summary,
    end_to_end: Sequence[EndToEnd],
    provenance: Mapping[str, Provenance],
    command: str,
) -> str:
    """The section as HTML.

    Args:
        summary: Of the cells.
        end_to_end: What federations came to; may be empty.
        provenance: What all of these ran on, by the key that they name.
        command: What reproduces it.
    """
    return (
        f"<p class=plain>{words.ORIGIN.format(file=CELLS_FILE)}</p>"
        f"<pre><code>{html.escape(command)}</code></pre>"
        f"{_solvers(summary)}{_deciders(end_to_end)}{_runs(provenance)}"
        f"<p class=plain>Written by fedhq {html.escape(metadata.version('fedhq'))}.</p>"
    )


def _solvers(summary: Summary) -> str:
    versions = {(row.solver, row.version) for row in summary.rows}
    settings = {j.cell.solver: j.cell.settings for j in summary.judged}
    rows = [
        _settings(solver, sorted(v for s, v in versions if s == solver), settings[solver])
        for solver in summary.solvers
    ]
    return table("Solvers", ("solver", "version", "settings"), rows, kind="text")


def _deciders(end_to_end: Sequence[EndToEnd]) -> str:
    """The solvers as they decided in federations: without a clock, each with who trained them."""
    if not end_to_end:
        return ""
    runs: dict[tuple[str, str, str], dict[str, None]] = {}
    for record in end_to_end:
        runs.setdefault((record.solver, record.solver_version, record.settings), {})[
            record.provenance
        ] = None
    rows = [
        (*_settings(solver, [version], settings), html.escape(", ".join(keys)))
        for (solver, version, settings), keys in runs.items()
    ]
    note = (
        "In a federation solvers are stopped by their work, not by the clock: every seed decides "
        f"the same on any machine. Each run is a line of {END_TO_END_FILE}."
    )
    heads = ("solver", "version", "settings", "run")
    return table("Solvers in the federations", heads, rows, note, "text")


def _settings(solver: str, versions: Sequence[str], settings: str) -> tuple[str, str, str]:
    return (
        html.escape(solver),
        html.escape(", ".join(versions)),
        f"<code>{html.escape(settings)}</code>",
    )


def _runs(provenance: Mapping[str, Provenance]) -> str:
    rows = [
        (
            html.escape(key),
            html.escape(f"{p.fedhq} {p.commit}".strip()),
            html.escape(p.python),
            html.escape(f"{p.system}, {p.cores} cores"),
            html.escape(", ".join(f"{n} {v}" for n, v in sorted(p.versions.items()))),
            html.escape(p.started),
        )
        for key, p in provenance.items()
    ]
    heads = ("run", "fedhq", "Python", "machine", "packages", "started (UTC)")
    return table("Runs", heads, rows, kind="text")
