"""Who may ask the server for what, and where it can listen."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fedhq.studies.dashboard.ahead import AnswerAhead
from fedhq.studies.dashboard.serve import guarded, listen


def echo(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REQUEST_METHOD"].encode()]


@contextmanager
def served(read_only: bool = False, host: str = "127.0.0.1") -> Iterator[int]:
    server = listen(guarded(echo, host, read_only), host, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(port: int, method: str = "GET", host: str | None = None, path: str = "/x") -> object:
    """The body, or the reason of a refusal."""
    headers = {} if host is None else {"Host": host}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        return json.loads(error.read()) if error.code == 403 else error.code


def test_this_machine_may_ask_by_all_its_names():
    with served() as port:
        for host in (None, f"localhost:{port}", "127.0.0.1", f"[::1]:{port}"):
            assert ask(port, host=host) == "GET"


def test_a_name_of_the_web_that_points_here_is_refused():
    with served() as port:
        reason = ask(port, host="evil.example:8080")["reason"]
    assert "evil.example" in reason
    assert "--host" in reason


def test_whoever_opens_the_dashboard_to_others_gets_all_names():
    with served(host="0.0.0.0") as port:
        assert ask(port, host="lab.example:8080") == "GET"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_read_only_refuses_all_that_changes_something(method):
    with served(read_only=True) as port:
        assert "--read-only" in ask(port, method)["reason"]
        assert ask(port) == "GET"
    with served() as port:
        assert ask(port, method) == method


def test_renaming_is_refused_as_it_would_lose_the_records():
    with served() as port:
        assert "--name" in ask(port, "POST", path="/api/studies/0/rename")["reason"]
        assert ask(port, "PUT", path="/api/studies/0/note") == "PUT"


def test_a_port_in_use_is_named_with_one_that_is_free():
    with served() as port:
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 is in use") as told:
            listen(echo, "127.0.0.1", port)
        free = int(str(told.value).rpartition("--port ")[2].rstrip("."))
        assert port < free < port + 100
        listen(echo, "127.0.0.1", free).server_close()


def test_an_address_of_another_machine_is_an_error_with_the_mend():
    with pytest.raises(ValueError, match=r"--host 192\.0\.2\.1: cannot listen there .* leave"):
        listen(echo, "192.0.2.1", 0)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_an_error(port):
    with pytest.raises(ValueError, match=f"--port {port}: must be from 0 to 65535"):
        listen(echo, "127.0.0.1", port)


@pytest.mark.skipif(not socket.has_ipv6, reason="the machine has no IPv6")
def test_the_other_loopback_address_works_too():
    try:
        listen(echo, "::1", 0).server_close()
    except ValueError as error:
        pytest.skip(f"no IPv6 here: {error}")


class Counted:
    """A dashboard that counts how often it was asked for trials."""

    def __init__(self):
        self.asked = []
        self.is_broken = False

    def __call__(self, environ, start_response):
        self.asked.append((environ["PATH_INFO"], environ.get("QUERY_STRING", "")))
        if self.is_broken and environ["PATH_INFO"].startswith("/api"):
            raise RuntimeError("the storage is gone")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{len(self.asked)}: {environ['PATH_INFO']}".encode()]


def call(app, path: str, query: str = "", method: str = "GET") -> tuple[str, bytes]:
    begun = []
    environ = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
    body = b"".join(app(environ, lambda status, headers, fault=None: begun.append(status)))
    return begun[-1], body


def test_a_page_has_its_trials_asked_for_once_and_the_answer_is_given_once():
    plain = Counted()
    app = AnswerAhead(plain)
    call(app, "/dashboard/studies/3/note")
    status, body = call(app, "/api/studies/3", "after=0")
    assert (status, plain.asked.count(("/api/studies/3", "after=0"))) == ("200 OK", 1)
    assert body.endswith(b"/api/studies/3")
    assert call(app, "/api/studies/3", "after=0")[1] == b"3: /api/studies/3"  # asked anew
    assert call(app, "/api/studies/3", "after=7")[1] == b"4: /api/studies/3"


def test_a_browser_asks_for_the_page_at_every_visit_but_may_keep_the_script():
    kept = {}
    for path in ("/dashboard/studies/3", "/static/bundle.js"):
        environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET"}

        def begin(status, headers, fault=None, path=path):
            kept[path] = dict(headers)

        AnswerAhead(Counted())(environ, begin)
    assert kept["/dashboard/studies/3"]["Cache-Control"] == "no-cache"
    assert "Cache-Control" not in kept["/static/bundle.js"]


def test_an_answer_made_ahead_is_of_its_own_study_and_not_for_late_comers(monkeypatch):
    plain = Counted()
    app = AnswerAhead(plain)
    call(app, "/dashboard/studies/3")
    call(app, "/api/studies/4", "after=0")
    assert ("/api/studies/4", "after=0") in plain.asked
    monkeypatch.setattr("fedhq.studies.dashboard.ahead._FRESH_SECONDS", 0.0)
    call(app, "/api/studies/3", "after=0")
    assert plain.asked.count(("/api/studies/3", "after=0")) == 2


def test_a_fault_ahead_is_the_fault_of_the_request():
    plain = Counted()
    plain.is_broken = True
    app = AnswerAhead(plain)
    call(app, "/dashboard/studies/3")
    with pytest.raises(RuntimeError, match="the storage is gone"):
        call(app, "/api/studies/3", "after=0")
