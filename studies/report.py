"""The report of a comparison: one HTML file that needs no network."""

from __future__ import annotations

import html
import json
import os
import shlex
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from ..allocator.errors import FedHQError
from .results import Comparison, Row, RunResult, cells, headings, summarise


def write_report(path: Path, comparison: Comparison) -> None:
    """Writes a comparison as one self-contained HTML file; what stood there is replaced at once.

    Args:
        path: The file.
        comparison: What to show.

    Raises:
        ValueError: If no run of the comparison's scenarios and arms is finished.
        FedHQError: If plotly is not installed.
    """
    if not summarise(comparison):
        raise ValueError(
            "`comparison.results` must hold a run of its scenarios and arms, but none of "
            f"{len(comparison.results)} is. Finish at least one run first."
        )
    page = _Page(comparison).render()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _figures() -> ModuleType:
    try:
        from . import figures
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "plotly":
            raise
        raise FedHQError(
            "the report needs plotly, which is not installed: pip install 'fedhq[report]'"
        ) from None
    return figures


class _Page:
    """Puts a page together; `plots` collects the figures that its script draws."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._figures = _figures()
        self._palette = self._figures.Palette.of(comparison)
        self._plots: list[list[Any]] = []

    def render(self) -> str:
        from plotly.offline import get_plotlyjs

        name = html.escape(self._comparison.name)
        sections = "".join(map(self._section, range(len(self._comparison.scenarios))))
        plots = json.dumps(self._plots, separators=(",", ":")).replace("<", "\\u003c")
        return (
            f'<!doctype html>\n<html lang="en">\n<head>\n{_HEAD}\n<title>{name} · fedhq</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n<p class=kicker>fedhq report</p>"
            f"\n<h1>{name}</h1>\n{_INTRODUCTION}{self._navigation()}</header>\n<main>\n"
            f"<noscript><p>The figures need JavaScript; the tables do not.</p></noscript>{sections}"
            f"</main>\n{self._footer()}\n"
            f'<script type="application/json" id="plots">{plots}</script>\n'
            f"<script>{get_plotlyjs()}</script>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
        )

    def _navigation(self) -> str:
        scenarios = self._comparison.scenarios
        if len(scenarios) < 2:
            return ""
        names = enumerate(map(html.escape, scenarios))
        links = "".join(f'<a href="#scenario-{k}">{name}</a>' for k, name in names)
        return f'<nav aria-label="Scenarios">{links}</nav>\n'

    def _section(self, index: int) -> str:
        comparison, figures, palette = self._comparison, self._figures, self._palette
        scenario = comparison.scenarios[index]
        rows = [row for row in summarise(comparison) if row.scenario == scenario]
        title = f"<h2>{html.escape(scenario)}</h2>"
        if not rows:
            return f'<section id="scenario-{index}">{title}<p>No run is finished yet.</p></section>'
        runs = [comparison.of(scenario, row.arm) for row in rows]
        parts = [title, self._table(rows, runs)]
        accuracy = figures.accuracy_figure(comparison, scenario, palette)
        parts.append(self._figure("Accuracy over time", _READ_ACCURACY, [accuracy]))
        views = [view for view in comparison.frontiers if view.scenario == scenario]
        if views:
            frontier = figures.frontier_figure(views)
            parts.append(self._figure("What was on offer", _READ_FRONTIER, [frontier]))
        first = [own[0] for own in runs if own[0].clients]
        if first:
            order = figures.client_order(comparison, scenario)
            maps = [figures.allocation_figure(run, order, palette) for run in first]
            bars = [figures.waterfall_figure(run, palette) for run in first]
            choice = self._choice(index, first)
            same = len({run.seed for run in first}) == 1
            seed = f" Seed {first[0].seed}." if same else " Each arm's lowest seed."
            parts.append(self._figure("Who did what", _READ_ALLOCATION + seed, maps, choice))
            parts.append(self._figure("The last round", _READ_WATERFALL + seed, bars, choice))
        return f'<section id="scenario-{index}">{"".join(parts)}</section>\n'

    def _figure(self, title: str, read: str, figures: Sequence[Any], choice: str = "") -> str:
        """A figure with its title; of several, the chosen one is drawn."""
        self._plots.append([figure.to_plotly_json() for figure in figures])
        shown = figures[-1].layout
        return (
            f"<figure><div class=bar><h3>{title}</h3>{choice}</div>"
            f'<div class=plot role=img data-plot={len(self._plots) - 1} style="height:'
            f'{shown.height}px" aria-label="{html.escape(shown.meta)}"></div>'
            f"<figcaption>{read}</figcaption></figure>\n"
        )

    def _choice(self, index: int, runs: Sequence[RunResult]) -> str:
        """A list of arms; those of a scenario's figures move together."""
        options = ""
        for k, run in enumerate(runs):
            chosen = " selected" if k == len(runs) - 1 else ""
            options += f"<option value={k}{chosen}>{html.escape(run.arm)}</option>"
        select = f'<select data-scenario={index} autocomplete="off">{options}</select>'
        return f"<label>arm {select}</label>"

    def _table(self, rows: Sequence[Row], runs: Sequence[Sequence[RunResult]]) -> str:
        names = headings(self._comparison.target_accuracy)
        head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in names)
        marks = _marks(rows)
        body = ""
        for row in rows:
            arm, *values = cells(row)
            dot = f'<span class=dot style="background:{self._palette.arms[arm]}"></span>'
            body += f"<tr><th scope=row>{dot}{html.escape(arm)}</th>"
            for column, value in enumerate(values, start=1):
                mark = marks.get((arm, column))
                badge = f"<span class=mark>{mark}</span> " if mark else ""
                body += f"<td{' class=best' if mark else ''}>{badge}{html.escape(value)}</td>"
            body += "</tr>"
        return (
            '<div class=table role=region tabindex=0 aria-label="Results">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            f"<p class=note>{_seeds(runs)} {_READ_TABLE}</p>\n"
        )

    def _footer(self) -> str:
        version = html.escape(metadata.version("fedhq"))
        return (
            f"<footer><p>Written by fedhq {version}. To reproduce it, run the same version with "
            f"the same configuration:</p><pre><code>{html.escape(self._command())}</code></pre>"
            "<p>The simulated clock does not depend on the machine; on one machine and number of "
            "threads the same command gives the same records, byte for byte. They stand in the "
            "folder of this page.</p></footer>"
        )

    def _command(self) -> str:
        name, seeds = self._comparison.name, {result.seed for result in self._comparison.results}
        if self._comparison.scenarios == ("run",) and len(self._comparison.arms) == 1:
            return f"fedhq run CONFIGURATION.toml --out {shlex.quote(name)}"
        config = "demo" if name == "demo" else f"{name}.toml"
        override = f"compare.seeds={sorted(seeds)}".replace(" ", "")
        return f"fedhq compare {shlex.quote(config)} --set {shlex.quote(override)}"


def _marks(rows: Sequence[Row]) -> dict[tuple[str, int], str]:
    """Which cells are the best of their column; only arms whose seeds all got there compete."""
    if len(rows) < 2:
        return {}
    accuracy = max(row.accuracy for row in rows)
    round_time = min(row.seconds_per_round for row in rows)
    there = [r for r in rows if r.seconds_to_target is not None and r.reached == r.seeds]
    target = min((r.seconds_to_target or 0.0 for r in there), default=None)
    marks = {(r.arm, 1): "best" for r in rows if r.accuracy == accuracy}
    marks |= {(r.arm, 2): "fastest" for r in rows if r.seconds_per_round == round_time}
    marks |= {(r.arm, 3): "fastest" for r in there if r.seconds_to_target == target}
    return marks


def _seeds(runs: Sequence[Sequence[RunResult]]) -> str:
    """Says over which seeds the means go."""
    own = [", ".join(str(run.seed) for run in arm) for arm in runs]
    if len(set(own)) > 1:
        names = [html.escape(arm[0].arm) for arm in runs]
        each = "; ".join(f"{name}: {s}" for name, s in zip(names, own, strict=True))
        return f"Means over seeds that differ by arm ({each}), so the arms are not paired."
    if len(runs[0]) == 1:
        return f"One seed ({own[0]}): differences of a few hundredths may be chance."
    return (
        f"Means over {len(runs[0])} seeds ({own[0]}); ± is the standard deviation over them. "
        "Do not tell apart arms that lie within each other's ±."
    )


_HEAD = """<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">"""

_INTRODUCTION = """<p class=lead>A fleet of unequal devices trains one model together. The model
will be deployed at low precision, and in every round everybody waits for the slowest client. So for
each client and round there is a choice: <b>skip</b> the round, train in floats (<b>fp32</b>), train
in floats and quantize afterwards (<b>ptq</b>, fast), or train with the rounding in the loop
(<b>qat</b>, slower, and the model learns to live with low precision). Each arm below makes that
choice in its own way; all arms of a seed share data, devices and first weights. Accuracy is always
that of the quantized model, and time is simulated.</p>
"""

_READ_TABLE = """Time to the target counts only seeds that reached it, and only arms whose seeds
all did can be fastest."""
_READ_ACCURACY = """<b>How to read.</b> Further left and higher is better. Lines are means over the
seeds after the same round, bands reach from the worst to the best seed; the dashed line is the
target. Click a name to hide an arm."""
_READ_FRONTIER = """<b>How to read.</b> Each point is an allocation that no other beats in both
predicted loss and round time, as planned for the first round; going right costs time and buys
accuracy. The diamond is the one that fedhq chose."""
_READ_ALLOCATION = """<b>How to read.</b> One row a client, the fastest device on top; one column a
round. The colour says what the client did; blank means not in the round's cohort."""
_READ_WATERFALL = """<b>How to read.</b> One bar a client: how long its last round took. The slowest
sets the round time, the dashed line; all room between a bar and the line is waiting."""

_STYLE = """
:root{--page:#fbfbfa;--card:#fff;--ink:#1d2228;--soft:#59626d;--line:#e4e6e9;--accent:#00775a;
--grid:#e9ebee;--shade:#0002}
@media (prefers-color-scheme:dark){:root{--page:#121518;--card:#1a1e23;--ink:#e6e9ec;--soft:#a0a9b4;
--line:#2c3239;--accent:#3ccb9f;--grid:#2a3037;--shade:#000b}} *{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:0 24px 48px;background:var(--page);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
overflow-wrap:break-word} header{padding:48px 0 8px}
.kicker{margin:0;color:var(--accent);font-size:13px;font-weight:600;letter-spacing:.08em;
text-transform:uppercase}
h1{margin:4px 0 16px;font-size:36px;line-height:1.15;letter-spacing:-.02em}
h2{margin:0 0 16px;font-size:24px;letter-spacing:-.01em} h3{margin:0;font-size:17px}
.lead{max-width:74ch;margin:0 0 20px;color:var(--soft)} .lead b{color:var(--ink)}
nav{display:flex;flex-wrap:wrap;gap:8px}
nav a{max-width:100%;padding:5px 14px;border:1px solid var(--line);border-radius:99px;
background:var(--card);color:var(--ink);text-decoration:none;font-size:14px}
nav a:hover{border-color:var(--accent);color:var(--accent)} section{padding-top:40px}
figure,.table{margin:0 0 20px;border:1px solid var(--line);border-radius:12px;
background:var(--card)}
.table{overflow-x:auto;background:
linear-gradient(to left,var(--card) 40%,transparent) right/48px 100% no-repeat local,
linear-gradient(to left,var(--shade),transparent) right/16px 100% no-repeat scroll,var(--card)}
figure{padding:18px 20px 16px}
.bar{display:flex;flex-wrap:wrap;align-items:center;justify-content:space-between;gap:8px 16px;
margin-bottom:10px} label{font-size:14px;color:var(--soft);max-width:100%}
select{max-width:220px;font:inherit;color:var(--ink);background:var(--page);
border:1px solid var(--line);border-radius:8px;padding:4px 8px}
figcaption,.note{color:var(--soft);font-size:14px;line-height:1.5}
figcaption{margin-top:10px;max-width:88ch} figcaption b{color:var(--ink);font-weight:600}
.note{margin:-8px 2px 20px;max-width:94ch}
table{width:100%;border-collapse:collapse;font-size:15px;font-variant-numeric:tabular-nums}
th,td{padding:10px 16px;text-align:right;white-space:nowrap}
th:first-child{position:sticky;left:0;background:var(--card);text-align:left}
thead th{color:var(--soft);font-size:13px;font-weight:600} 
tbody th{min-width:164px;max-width:min(50vw,320px);white-space:normal;font-weight:500}
tbody tr{border-top:1px solid var(--line)} .best{font-weight:650}
.mark{margin-right:2px;padding:1px 7px;border-radius:99px;color:var(--accent);
border:1px solid currentColor;font-size:11px;font-weight:600;vertical-align:1px}
.dot{display:inline-block;width:10px;height:10px;margin-right:10px;border-radius:3px}
footer{margin-top:40px;padding-top:20px;border-top:1px solid var(--line);color:var(--soft);
font-size:14px}
pre{overflow-x:auto;padding:12px 16px;border-radius:8px;background:var(--card);
border:1px solid var(--line);color:var(--ink);font-size:13px}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media (max-width:640px){body{padding:0 12px 32px}header{padding-top:28px}h1{font-size:28px}
figure{padding:14px 12px}th,td{padding:9px 12px}}
"""

_SCRIPT = """
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {responsive: true, displaylogo: false, modeBarButtons: [["toImage"]]};
  const themed = (layout, narrow) => {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue("--" + name).trim();
    Object.assign(layout.font, {color: colour("soft"), size: narrow ? 12 : 13});
    Object.assign(layout.hoverlabel, {bgcolor: colour("card"), bordercolor: colour("line")});
    layout.hoverlabel.font.color = colour("ink");
    for (const axis of [layout.xaxis, layout.yaxis]) {
      axis.gridcolor = axis.linecolor = colour("grid");
      axis.tickfont = {...axis.tickfont, color: colour("soft")};
    }
    for (const note of layout.annotations || []) note.font = {...note.font, color: colour("ink")};
    layout.modebar = {bgcolor: "transparent", color: colour("soft"), activecolor: colour("ink")};
    if (touch) layout.dragmode = false;
    return layout;
  };
  const draw = (plot) => {
    const figures = plots[plot.dataset.plot];
    const select = plot.parentElement.querySelector("select");
    const figure = structuredClone(figures[select ? select.value : 0]);
    plot.setAttribute("aria-label", figure.layout.meta);
    const narrow = plot.clientWidth < 520;
    config.displayModeBar = narrow || touch ? false : "hover";
    Plotly.react(plot, figure.data, themed(figure.layout, narrow), config);
  };
  const all = document.querySelectorAll(".plot");
  all.forEach(draw);
  dark.addEventListener("change", () => all.forEach(draw));
  document.querySelectorAll("select").forEach((select) => select.addEventListener("change", () =>
    document.querySelectorAll(`select[data-scenario="${select.dataset.scenario}"]`)
      .forEach((other) => { other.value = select.value;
        draw(other.closest("figure").querySelector(".plot")); })));
})();
"""
