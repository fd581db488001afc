"""The web server of the dashboard: who may ask it for what, and where it listens."""

from __future__ import annotations

import errno
import json
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_PORTS_TRIED = 100
_NO_CONTENT = str(HTTPStatus.NO_CONTENT.value)
_RENAME = re.compile(r"/api/studies/\d+/rename/?")


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    return host in _LOOPBACK


def guarded(app: WSGIApplication, host: str, read_only: bool) -> WSGIApplication:
    """Lets only some requests through to the dashboard, which refuses none.

    On a loopback address only requests that name such an address pass: a page of the web cannot
    reach the dashboard under a name of its own that it has pointed here. Renaming a study never
    passes: the dashboard would copy what it shows and delete the original.

    Args:
        app: The dashboard.
        host: Where it listens.
        read_only: Whether requests that change something are refused.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reason = _refusal(environ, host, read_only)
        if reason is None:
            return app(environ, start_response)
        return _reply(start_response, HTTPStatus.FORBIDDEN, {"reason": reason})

    return answer


def with_bodies(app: WSGIApplication) -> WSGIApplication:
    """Gives replies without a body an empty object.

    The page of optuna-dashboard 0.21 reads every reply as JSON: a note that it saved looks lost,
    and its editor never closes.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begun: list[str] = []

        def start(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: OptExcInfo | None = None,
            /,
        ) -> Callable[[bytes], object]:
            begun.append(status)
            if status.startswith(_NO_CONTENT):
                return lambda data: None
            return start_response(status, headers, exc_info)

        body = app(environ, start)
        if begun and begun[-1].startswith(_NO_CONTENT):
            return _reply(start_response, HTTPStatus.OK, {})
        return body

    return answer


def _reply(
    start_response: StartResponse, status: HTTPStatus, content: Mapping[str, str]
) -> list[bytes]:
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
    return [json.dumps(content).encode()]


def _refusal(environ: WSGIEnvironment, host: str, read_only: bool) -> str | None:
    """Why a request must not pass; None if it may."""
    asked = environ.get("HTTP_HOST", "")
    name = asked.rpartition(":")[0] if re.search(r":\d+$", asked) else asked
    if is_loopback(host) and name.strip("[]") not in _LOOPBACK:
        return f"this dashboard serves {host}, not {asked}; start it with --host to open it"
    if environ["REQUEST_METHOD"] in ("GET", "HEAD", "OPTIONS"):
        return None
    if read_only:
        return "this dashboard was started with --read-only"
    if _RENAME.fullmatch(environ.get("PATH_INFO", "")):
        return "renaming loses the records of a search; give another --name when you start one"
    return None


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: requests come every few seconds."""


def listen(app: WSGIApplication, host: str, port: int) -> WSGIServer:
    """A server that listens already; `serve_forever` makes it answer.

    Args:
        app: What answers.
        host: The address, a name or a number.
        port: The port; 0 for any free one.

    Raises:
        ValueError: If the port is in use or not allowed, or the address is not one of this machine.
    """
    kind = _ServerV6 if ":" in host else _Server
    try:
        return make_server(host, port, app, server_class=kind, handler_class=_Quiet)
    except OSError as error:
        raise ValueError(_why_not(error, host, port)) from None
    except OverflowError:
        raise ValueError(f"--port {port}: must be from 0 to 65535.") from None


def _why_not(error: OSError, host: str, port: int) -> str:
    """Why one cannot listen there, and what to do."""
    if error.errno == errno.EADDRINUSE:
        free = next((p for p in range(port + 1, port + _PORTS_TRIED) if _is_free(host, p)), 0)
        return f"port {port} of {host} is in use; take --port {free}" + (
            "." if free else ", which finds one."
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs the rights of an administrator; take --port 8080."
    reason = error.strerror or str(error)
    return f"--host {host}: cannot listen there ({reason}); leave --host out for this machine only."


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True
