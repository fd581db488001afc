"""The command `fedhq study report`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

_DESCRIPTION = """Writes one static page of a search, or of several on one frontier: the feasible
best for what you prefer, trials against what is provably best, regret, who does what and who is
waited for, prices, and where every number comes from. The page needs no server and no network."""
_EXAMPLES = """examples:
  fedhq study report runs/search                         runs/search/report.html
  fedhq study report runs/tpe runs/gp --out both.html    two searches on one frontier
  fedhq study report runs/search --prefer knee --prefer most-accurate-within=6
  fedhq study report postgresql+psycopg://me@host/studies --name search --out search.html
  fedhq study report runs/search --trial 12              one trial, planned again
  fedhq study report runs/search --trial 12 --config trial-12.toml && fedhq run trial-12.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options of the command, and what it does."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "places", nargs="+", metavar="PLACE", help="a search's folder, or its storage's address"
    )
    parser.add_argument(
        "--name", dest="names", action="append", default=[], metavar="STUDY",
        help="which study of a storage; repeatable: several of one storage, or one a place",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="the page (default: report.html in the folder; of several places or a storage, here)",
    )  # fmt: skip
    parser.add_argument(
        "--prefer", action="append", default=[], metavar="RULE",
        help="show the feasible best for it: knee, fastest-within=LOSS (of the most accurate), "
        "most-accurate-within=SECONDS or tradeoff=SECONDS (per unit of loss); repeatable",
    )  # fmt: skip
    parser.add_argument("--trial", type=int, metavar="N", help="print this trial instead of a page")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="with --trial: write its run as TOML"
    )
    parser.set_defaults(command=run, resumes=False)


def run(options: argparse.Namespace) -> None:
    """Writes the page, or prints a trial."""
    from ..writing import check_file
    from .report.parts import place_text
    from .report.preferences import read_preference
    from .report.report import report_studies
    from .storage.opening import read_search
    from .storage.places import address_of, close_storage, without_secrets
    from .storage.study_file import folder_of

    preferences = tuple(map(read_preference, options.prefer))
    _check_pairs(options)
    asked = _asked(options.places, options.names)
    with ExitStack() as open_studies:
        studies = []
        for place, name in asked:
            study = read_search(place, name)
            open_studies.callback(close_storage, study._storage)
            studies.append(study)
        if options.trial is not None:
            _show_trial(studies, options.trial, options.config, folder_of(asked[0][0]))
            return
        out = options.out or _usual_out(options.places)
        check_file("--out", out)
        texts = [place_text(address_of(place), name or "") for place, name in asked]
        folders = [folder_of(place) for place, _ in asked]
        command = without_secrets(options.given, options.places)
        report_studies(out, studies, texts, command, preferences, folders)
    print(f"report: {out}")


def _check_pairs(options: argparse.Namespace) -> None:
    """Refuses options of a page with a trial, and of a trial with a page."""
    if options.trial is None:
        if options.config is not None:
            raise ValueError("--config is a trial's. Name one with --trial.")
        return
    for option, given in (("--out", options.out), ("--prefer", options.prefer)):
        if given:
            raise ValueError(
                f"{option} is of a page, but --trial {options.trial} prints a trial. Leave one of "
                "them out; --config FILE writes a trial's run."
            )


def _asked(places: Sequence[str], names: Sequence[str]) -> list[tuple[str, str | None]]:
    """The studies that are asked for, by place and name."""
    if not names:
        return [(place, None) for place in places]
    if len(places) == 1:
        return [(places[0], name) for name in names]
    if len(names) == len(places):
        return list(zip(places, names, strict=True))
    raise ValueError(
        f"--name: {len(names)} names for {len(places)} places. Give one a place, or one place."
    )


def _usual_out(places: Sequence[str]) -> Path:
    folder = Path(places[0]) if len(places) == 1 and Path(places[0]).is_dir() else Path()
    return folder / "report.html"


def _show_trial(
    studies: Sequence[optuna.Study], trial_number: int, config: Path | None, folder: Path | None
) -> None:
    from ..writing import check_file, write_at_once
    from .report.plans import LatePlanner
    from .report.trial_text import trial_config, trial_of, trial_text
    from .report.view import StudyView

    if len(studies) > 1:
        raise ValueError(f"--trial {trial_number}: is of one study, but {len(studies)} are named.")
    if config is not None:
        check_file("--config", config)
    view = StudyView.of(studies[0])
    trial = trial_of(view, trial_number)
    print(trial_text(view, trial, LatePlanner(view.record.config, folder)))
    if config is not None:
        write_at_once(config, trial_config(view, trial))
        print(f"configuration: {config}")
