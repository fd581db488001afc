"""The report of searches: one HTML file that needs no network, of one study or several."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ...document import Document, check_plotly, choice_list
from ...writing import write_at_once
from . import parts, words
from .details import Details
from .plans import LatePlanner
from .preferences import Preference
from .regret import Unclaimed, exact_points
from .view import StudyView

if TYPE_CHECKING:
    import optuna


def write_report(
    path: Path,
    views: Sequence[StudyView],
    details: Sequence[Details] = (),
    command: str = "",
    preferences: Sequence[Preference] = (),
) -> None:
    """Writes studies as one self-contained HTML file; what stood there is replaced at once.

    Args:
        path: The file.
        views: The studies; they must trade the same measures, all in the model or all trained.
        details: What else is shown of each, in the same order; records alone where empty.
        command: What makes the file again.
        preferences: For which the feasible best is shown; the usual ones where empty.

    Raises:
        ValueError: If the studies trade different measures.
        FedHQError: If plotly is not installed.
    """
    check_comparable(views)
    check_plotly()
    shown = list(details) or [Details() for _ in views]
    write_at_once(path, _Page(views, shown, command, preferences).render())


def report_studies(
    path: Path,
    studies: Sequence[optuna.Study],
    places: Sequence[str],
    command: str,
    preferences: Sequence[Preference] = (),
    folders: Sequence[Path | None] = (),
) -> None:
    """Reads studies, plans what they tried again, and writes their report.

    Args:
        path: The file.
        studies: Of `fedhq study search`.
        places: Where each stands, as commands name it.
        command: What makes the file again.
        preferences: See `write_report`.
        folders: The searches', in the same order, where they are known.

    Raises:
        ValueError: If a study is not one of fedhq's, or they trade different measures.
        FedHQError: If plotly is not installed.
    """
    views = [StudyView.of(study) for study in studies]
    check_comparable(views)  # before anything takes time
    details = [
        Details.of(study, view, place, LatePlanner(view.record.config, folder), preferences)
        for study, view, place, folder in zip(
            studies, views, places, folders or [None] * len(views), strict=True
        )
    ]
    write_report(path, views, details, command, preferences)


def check_comparable(views: Sequence[StudyView]) -> None:
    """Raises a `ValueError` that names two studies that no figure can show together."""
    for view in views[1:]:
        if (view.axes, view.evaluated) != (views[0].axes, views[0].evaluated):
            raise ValueError(
                "the studies of one report must trade the same measures in the same evaluation, "
                f"but {_traded(views[0])}, {_traded(view)}. Write a report of each."
            )


def _traded(view: StudyView) -> str:
    return f"{view.name!r} has {' and '.join(view.axes)} of {view.evaluated}"


class _Page:
    """The sections of a page of searches."""

    def __init__(
        self,
        views: Sequence[StudyView],
        details: Sequence[Details],
        command: str,
        preferences: Sequence[Preference],
    ) -> None:
        self._views, self._details = views, details
        self._command, self._preferences = command, preferences
        name = " · ".join(view.name for view in views)
        self._document = Document(name, "fedhq study")

    def render(self) -> str:
        """The whole page as HTML."""
        first = self._views[0]
        traded = " and ".join(map(words.name_of, first.traded))
        lead = words.LEAD.format(how=words.HOW[first.evaluated], traded=traded)
        introduction = f"<p class=lead>{lead}</p>\n{self._navigation()}"
        together = ""
        if len(self._views) > 1:
            courses = self._courses(self._views)
            together = f'<section id="all"><h2>All studies</h2>{courses}</section>\n'
        sections = "".join(map(self._section, range(len(self._views))))
        return self._document.render(introduction, together + sections, self._footer(), words.STYLE)

    def _navigation(self) -> str:
        if len(self._views) < 2:
            return ""
        links = "".join(
            f'<a href="#study-{k}">{html.escape(view.name)}</a>'
            for k, view in enumerate(self._views)
        )
        return f'<nav aria-label="Studies">{links}</nav>\n'

    def _section(self, k: int) -> str:
        view, details = self._views[k], self._details[k]
        title = html.escape(view.name) if len(self._views) > 1 else "What came of it"
        body = [f"<h2>{title}</h2>"]
        body.append(f"<p class=verdict>{html.escape(words.verdict(view))}</p>\n")
        if len(view.front):
            body.append(parts.cards(view, self._preferences, details.place))
        if len(self._views) == 1:
            body.append(self._courses([view]))
        if len(view.front):
            body += [parts.front_table(view), self._who(view, details)]
            body += [self._waited_for(k, details), self._along(view, details)]
        body += [self._importance(view, details), parts.origin(view)]
        return f'<section id="study-{k}">{"".join(body)}</section>\n'

    def _courses(self, views: Sequence[StudyView]) -> str:
        """The trials against what is provably best, and how the searches came there."""
        from .course_figures import course_figures
        from .figures import frontier_figure

        exact = [v for v in views if not isinstance(exact_points(v), Unclaimed)]
        others = dict.fromkeys(words.name_of(name) for v in views for name in v.others)
        rest = words.READ_REST.format(others=" and ".join(others)) if others else ""
        of_exact = words.of_exact([v.record for v in exact])
        read = words.READ_FRONTIER.format(exact=of_exact, rest=rest)
        drawn = [self._document.figure("Trials and front", read, [frontier_figure(views)])]
        for course in course_figures(views):
            if course.unclaimed:
                why = html.escape(" ".join(course.unclaimed))
                title, read = "Progress", words.READ_PROGRESS.format(why=why)
            else:
                title, read = "Regret", words.of_regret(course.courses)
            drawn.append(self._document.figure(title, read, [course.figure]))
        return "".join(drawn)

    def _who(self, view: StudyView, details: Details) -> str:
        """What the clients did in the front's trials."""
        from .plan_figures import allocation_figure, colours_of

        order = "the fastest device on top" if details.trials else "in the fleet's order"
        trials = [view.trials[place] for place in view.front.tolist()]
        read = words.READ_ALLOCATION.format(order=order, first=words.least_of(view.axes[0]))
        missing = f"<p class=note>{html.escape(details.missing)}</p>" if details.missing else ""
        drawn = allocation_figure(trials, details.trials, colours_of(view))
        return self._document.figure("Who did what", read, [drawn]) + missing

    def _waited_for(self, k: int, details: Details) -> str:
        """The seconds of every client, for one of the notable trials at a time."""
        from .plan_figures import colours_of, waterfall_figure

        plans = details.trials
        if not plans:
            return ""
        choice = choice_list("trial", [str(plan.trial.number) for plan in plans], 0, str(k))
        differ = ", ".join(str(plan.trial.number) for plan in plans if not plan.agrees)
        again = words.DIFFER.format(trials=differ) if differ else words.AGREE
        read = words.READ_WATERFALL.format(again=again)
        colours = colours_of(self._views[k])
        drawn = [waterfall_figure(plan, colours) for plan in plans]
        return self._document.figure("Who is waited for", read, drawn, choice, shown=0)

    def _along(self, view: StudyView, details: Details) -> str:
        """Strategies and prices along the trade-off."""
        from .plan_figures import colours_of, has_prices, mix_figure, prices_figure

        solutions = details.tradeoffs
        if len(solutions) < 2:
            return ""
        read = words.READ_MIX.format(trial=details.base, count=len(solutions))
        drawn = mix_figure(solutions, colours_of(view))
        mix = self._document.figure("Strategies along the trade-off", read, [drawn])
        if not has_prices(solutions):
            return mix
        return mix + self._document.figure(
            "Shadow prices", words.READ_PRICES, [prices_figure(solutions)]
        )

    def _importance(self, view: StudyView, details: Details) -> str:
        """Which parameters matter."""
        from .figures import importance_figure

        if not details.importances:
            return ""
        drawn = importance_figure(view, details.importances)
        return self._document.figure("What matters", words.READ_IMPORTANCE, [drawn])

    def _footer(self) -> str:
        version = html.escape(metadata.version("fedhq"))
        made = f"<pre><code>{html.escape(self._command)}</code></pre>" if self._command else ""
        return (
            f"<footer><p>Written by fedhq {version}{' with:' if made else '.'}</p>{made}"
            f"{words.TRACE}</footer>"
        )
