"""`fedhq study dashboard`: opens a search in Optuna's dashboard."""

from __future__ import annotations

import argparse
import math
import webbrowser
from pathlib import Path

_EXAMPLES = """examples:
  fedhq study dashboard runs/search
  fedhq study dashboard runs/search --port 9000 --browse
  fedhq study dashboard postgresql+psycopg://me@host/studies --name fleet
  fedhq study dashboard runs/search --ablation runs/ablation

From another machine, without opening a port to others:
  ssh -L 8080:127.0.0.1:8080 me@host fedhq study dashboard runs/search
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options of the command, and what it does."""
    parser.description = (
        "Opens a search in Optuna's dashboard, with fedhq's own figures, notes of the study and of "
        "the trials that matter, the allocation of every trial, and the report. It shows a search "
        "while it runs, and writes nothing into it."
    )
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_search_options(parser)
    _add_server_options(parser)
    parser.set_defaults(command=run, resumes=False)


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    """What is shown."""
    parser.add_argument(
        "place", metavar="PLACE", help="folder of `fedhq study search`, or a storage's address"
    )
    parser.add_argument("--name", help="of the study, where the storage holds several")
    parser.add_argument(
        "--ablation",
        type=Path,
        metavar="DIR",
        help="folder of `fedhq study ablation`, whose solvers are shown beside the search",
    )
    parser.add_argument(
        "--artifacts",
        type=Path,
        metavar="DIR",
        help="folder of files that people upload (default: PLACE/artifacts, or ./artifacts where "
        "PLACE is no folder)",
    )


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    """Where, how often and to whom."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at (default: %(default)s, this machine only); there is no password",
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="port (default: %(default)s); 0: any free one"
    )
    parser.add_argument(
        "--refresh",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="time between two looks for new trials (default: %(default)g)",
    )
    parser.add_argument(
        "--read-only", action="store_true", help="refuse notes, uploads and deletions"
    )
    parser.add_argument("--browse", action="store_true", help="open it in your web browser")


def run(options: argparse.Namespace) -> None:
    """Runs the command until Ctrl-C.

    Raises:
        ValueError: If there is no such search, it cannot listen there, or an option is wrong.
        FedHQError: If a package is missing.
    """
    if not 0 < options.refresh < math.inf:
        raise ValueError(f"--refresh {options.refresh:g}: must be above 0 and finite.")
    from ..search.report.parts import place_text
    from ..search.report.plans import LatePlanner
    from ..search.report.view import StudyView
    from ..search.storage.opening import read_search
    from ..search.storage.places import address_of, close_storage
    from ..search.storage.study_file import folder_of
    from .session import address, dashboard, greeting
    from .solver_plot import solver_figure

    solvers = {} if options.ablation is None else solver_figure(options.ablation)
    study = read_search(options.place, options.name)
    try:
        place = place_text(address_of(options.place), options.name or "")
        with dashboard(
            study,
            LatePlanner(StudyView.of(study).record.config, folder_of(options.place)),
            place,
            options.artifacts or _artifacts(options.place),
            host=options.host,
            port=options.port,
            every=options.refresh,
            read_only=options.read_only,
            extra=solvers,
        ) as server:
            print(greeting(server, study, place, options.read_only), flush=True)
            if options.browse:
                webbrowser.open(address(server, study))
            server.serve_forever()
    finally:
        close_storage(study._storage)


def _artifacts(place: str) -> Path:
    """Where uploads lie: in the search's folder, or in this one for a storage elsewhere."""
    folder = Path(place)
    return (folder if folder.is_dir() else Path()) / "artifacts"
