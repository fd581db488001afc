"""One dashboard from its start to Ctrl-C: what it reads, shows and serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...allocator.errors import FedHQError
from .serve import guarded, is_loopback, listen, with_bodies

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    import optuna

    from ..search.report.plans import Planner

_NEEDS = (
    "the dashboard needs optuna-dashboard, which is not installed: pip install 'fedhq[dashboard]'"
)


@contextmanager
def dashboard(
    study: optuna.Study,
    planner: Planner,
    place: str,
    artifacts: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    every: float = 5.0,
    read_only: bool = False,
    extra: Mapping[str, str] | None = None,
) -> Iterator[WSGIServer]:
    """A dashboard that listens; `serve_forever` makes it answer.

    While it is open, notes and figures are made anew in the background as trials finish.

    Args:
        study: The search.
        planner: Plans its policies again, for figures and tables.
        place: Of the search, as commands name it.
        artifacts: Folder of what people upload.
        host: Address.
        port: Port; 0 for any free one.
        every: Seconds between two looks at the study.
        read_only: Whether the dashboard refuses to change anything.
        extra: Further figures, by id.

    Raises:
        FedHQError: If optuna-dashboard is not installed.
        ValueError: If it cannot listen there, or the study is not one of `fedhq study search`.
    """
    try:
        from optuna_dashboard import wsgi
    except ModuleNotFoundError:
        raise FedHQError(_NEEDS) from None
    from . import mends
    from .ahead import AnswerAhead
    from .compose import Composer
    from .files import OfferedFiles
    from .refresh import Refresher
    from .shown import ShownStorage

    mends.keep_figures_in_order()
    best_is_feasible = mends.keep_best_feasible_and_distinct()
    composer = Composer(study, planner, place, best_is_feasible, extra)
    storage, key, files = study._storage, study._study_id, composer.files()
    shown = ShownStorage(storage, key, files)
    shown.show(composer.first())
    app = wsgi(shown, artifact_store=OfferedFiles(files, artifacts))
    server = listen(guarded(AnswerAhead(with_bodies(app)), host, read_only), host, port)
    refresher = Refresher(storage, key, shown, composer.all, every)
    refresher.start()
    try:
        yield server
    finally:
        refresher.end()
        server.server_close()


def address(server: WSGIServer, study: optuna.Study) -> str:
    """Where one opens a study in a dashboard."""
    host, port = server.server_address[:2]
    named = f"[{host!s}]" if ":" in str(host) else str(host)
    return f"http://{named}:{port}/dashboard/studies/{study._study_id}"


def greeting(server: WSGIServer, study: optuna.Study, place: str, read_only: bool) -> str:
    """What a dashboard says when it has started."""
    lines = [f"{study.study_name} ({place}): {address(server, study)}"]
    if not is_loopback(str(server.server_address[0])):
        lines.append(
            "Anybody who reaches this address can read the search"
            f"{'' if read_only else ', and delete it'}: there is no password."
        )
    lines.append(
        "Nothing is written into the study"
        + (
            "."
            if read_only
            else " but what you do in the dashboard, as notes; --read-only refuses it."
        )
    )
    return "\n".join([*lines, "Ctrl-C ends it."])
