"""What the dashboard shows beside what a study holds: notes and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_NOTE_VERSION, _NOTE_TEXT = "note_ver", "note_str:"


@dataclass(frozen=True)
class Additions:
    """Notes and figures of a study at one moment.

    The keys are those under which `optuna_dashboard.save_note` and `save_plotly_graph_object` would
    write them into the study.

    Args:
        note: Of the study, in Markdown.
        trial_notes: Of trials, by their id in the storage.
        figures: Of plotly as JSON, by an id that is fit for HTML.
    """

    note: str = ""
    trial_notes: Mapping[int, str] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)

    def over(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """A study's own system attributes with these; what people wrote themselves stays.

        A note that somebody edited in the dashboard replaces ours, until it is emptied.

        Example:
            >>> Additions("ours").over({})
            {'dashboard:note_ver': 0, 'dashboard:note_str:0': 'ours'}
            >>> Additions("ours").over({"dashboard:note_ver": 3, "dashboard:note_str:0": "mine"})
            {'dashboard:note_ver': 3, 'dashboard:note_str:0': 'mine'}
        """
        ours = {f"dashboard:plot_data:{name}:0": text for name, text in self.figures.items()}
        notes = {"dashboard:": self.note}
        notes |= {f"dashboard:{trial}:": text for trial, text in self.trial_notes.items()}
        merged = {**ours, **own}
        for place, text in notes.items():
            is_own = any(own[key] for key in own if key.startswith(place + _NOTE_TEXT))
            if text and not is_own:
                merged.setdefault(place + _NOTE_VERSION, 0)
                merged[f"{place}{_NOTE_TEXT}0"] = text
        return merged
