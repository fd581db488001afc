"""Makes the answer that a page will ask for while the browser still reads the page.

A browser takes half a second or more to read the dashboard's script before it asks for the trials,
and the server as long again to put two thousand of them together. Done at once, that is once.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING
from wsgiref.util import setup_testing_defaults

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PAGE = re.compile(r"/dashboard/studies/(\d+)(/.*)?")
_ALL_TRIALS = "after=0"
_FRESH_SECONDS = 10.0  # as often the page asks again


@dataclass(frozen=True)
class _Answer:
    status: str
    headers: list[tuple[str, str]]
    body: bytes


class AnswerAhead:
    """Passes everything on, and asks for the trials of a study as soon as its page is asked for.

    Args:
        app: The dashboard.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._made: dict[str, tuple[float, Future[_Answer]]] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] == "GET":
            if page := _PAGE.fullmatch(path):
                self._begin(f"/api/studies/{page[1]}")
                return self._app(environ, _unkept(start_response))
            elif environ.get("QUERY_STRING") == _ALL_TRIALS and path in self._made:
                asked, answer = self._made.pop(path)
                if time.monotonic() - asked < _FRESH_SECONDS:
                    return _replay(answer.result(), start_response)
        return self._app(environ, start_response)

    def _begin(self, path: str) -> None:
        answer: Future[_Answer] = Future()
        self._made[path] = (time.monotonic(), answer)

        def make() -> None:
            try:
                answer.set_result(_ask(self._app, path))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=make, name="fedhq-ahead", daemon=True).start()


def _unkept(start_response: StartResponse) -> StartResponse:
    """Makes a browser ask for the page at every visit, as only that begins the answer."""

    def start(
        status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        return start_response(status, [*headers, ("Cache-Control", "no-cache")], exc_info)

    return start


def _ask(app: WSGIApplication, path: str) -> _Answer:
    """What an application answers when it is asked for all trials."""
    environ: WSGIEnvironment = {"PATH_INFO": path, "QUERY_STRING": _ALL_TRIALS}
    setup_testing_defaults(environ)
    begun: list[tuple[str, list[tuple[str, str]]]] = []

    def start(
        status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        begun.append((status, headers))
        return lambda data: None

    body = b"".join(app(environ, start))
    return _Answer(*begun[-1], body)


def _replay(answer: _Answer, start_response: StartResponse) -> list[bytes]:
    start_response(answer.status, answer.headers)
    return [answer.body]
