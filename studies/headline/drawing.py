"""The figures of the report, as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from plotly import graph_objects as go

from ..figures import NAME, SYMBOLS, Point, add_arm, add_level, lay_out
from ..palette import HYBRIDS, LAST_ARM, strategy_colours
from .arms import COARSE, SAME_FINISH
from .plans import PTQ, QAT
from .results import FEDHQ, PTQ_ARM, QAT_ARM, Setting

_SHOWN = ("fp32", PTQ_ARM, QAT_ARM, SAME_FINISH, "hardware-only", "bits by speed", COARSE)


def course_figure(setting: Setting) -> go.Figure:
    """Accuracy as it counts for targets against simulated time: means over seeds, their range."""
    figure, ends = go.Figure(), []
    colours, spare = strategy_colours(["fp32", PTQ, QAT]), cycle(HYBRIDS)
    own = {"fp32": colours["fp32"], PTQ_ARM: colours[PTQ], QAT_ARM: colours[QAT], FEDHQ: LAST_ARM}
    for k, arm in enumerate(arm for arm in (*_SHOWN, FEDHQ) if arm in setting.courses):
        course = setting.courses[arm]
        points = [
            Point(number, float(x.mean()), float(y.mean()), float(y.min()), float(y.max()), len(y))
            for number, (x, y) in enumerate(zip(course.seconds.T, course.settled.T, strict=True), 1)
        ]
        is_ours = arm == FEDHQ
        symbol = "circle" if is_ours else SYMBOLS[k % len(SYMBOLS)]
        name = f"fedhq ({FEDHQ})" if is_ours else arm
        add_arm(figure, name, points, own.get(arm) or next(spare), symbol, 3.4 if is_ours else 1.8)
        ends.append(f"{name} {course.end:.3f} after {points[-1].seconds:.1f} s")
    add_level(figure, setting.target, f"target {setting.target:g}", "left")
    alt = (
        f"Line chart: deployed accuracy against time in {setting.cell.setting}. {'; '.join(ends)}."
    )
    lay_out(figure, "simulated time, s", "deployed accuracy, mean of three rounds", 460, alt)
    figure.update_xaxes(rangemode="tozero")
    return figure


def ceiling_figure(settings: Sequence[Setting]) -> go.Figure:
    """Times faster than all-QAT against the ceiling, a point a setting."""
    figure = go.Figure()
    known = [s for s in settings if s.ratios[FEDHQ].kind in "=<>"]
    for k, (task, colour) in enumerate(
        zip(dict.fromkeys(s.cell.ground.task for s in known), cycle((LAST_ARM, *HYBRIDS)))
    ):
        mine = [s for s in known if s.cell.ground.task == task]
        ratios = [s.ratios[FEDHQ] for s in mine]
        figure.add_scatter(
            x=[s.ceiling for s in mine], y=[r.value for r in ratios], name=task, mode="markers",
            text=[f"{s.cell.setting}<br>{r}" for s, r in zip(mine, ratios, strict=True)],
            hovertemplate=NAME + "%{text}, ceiling %{x:.2f}",
            marker={"color": colour, "symbol": SYMBOLS[k % len(SYMBOLS)], "size": 8},
        )  # fmt: skip
    top = max((s.ceiling for s in known), default=1.0)
    figure.add_scatter(
        x=[1, top], y=[1, top], mode="lines", name="the ceiling", hoverinfo="skip",
        line={"dash": "dot", "color": HYBRIDS[1]},
    )  # fmt: skip
    add_level(figure, 1.0, "as fast as all-QAT", "right")
    alt = f"Scatter chart: {len(known)} settings, times faster than all-QAT against the ceiling."
    lay_out(figure, "ceiling: round time of all-QAT over all-PTQ's", "times faster", 420, alt)
    return figure
