"""Where studies live: a journal file, a database, or a gRPC proxy before one.

A place is a text: the path of a journal file, perhaps with `journal:` before it;
`postgresql+psycopg://user@host/database`, `mysql+pymysql://...`, `sqlite:///file`; or
`grpc://host:port`.
"""

from __future__ import annotations

import os
import shlex
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage
from optuna.storages.journal import JournalFileBackend

from .database import BACKENDS, open_database
from .errors import StorageError
from .journal import CAN_LOCK, SharedJournal, check_journal

STORAGE_VARIABLE = "FEDHQ_STORAGE"
JOURNAL = "journal:"
OUTAGE_SECONDS = 300.0
_PROXY = "grpc"
_PROXY_SECONDS = 10.0
_PAUSES = (0.1, 0.3, 1.0, 3.0, 10.0)
_SECRETS = ("password", "passwd", "sslpassword")
_KNOWN = (
    "a journal's path, postgresql+psycopg://user@host/database, mysql+pymysql://..., "
    "sqlite:///file, grpc://host:port"
)
_OUTAGES = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)

_T = TypeVar("_T")


def open_storage(place: str, may_create: bool = False) -> BaseStorage:
    """Opens the storage at a place.

    Args:
        place: See above.
        may_create: Whether a journal or SQLite file that is missing is made, and Optuna's tables
            in an empty database.

    Returns:
        The storage; `close_storage` frees its connections.

    Raises:
        ValueError: If the place is none of the known kinds.
        StorageError: If nothing is there, it cannot be reached, a driver is missing, or it holds
            something else than studies. What stands there is not changed.

    Example:
        >>> open_storage("nowhere/journal.log")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        fedhq...StorageError: nowhere/journal.log: there is no such file...
    """
    if is_journal(place):
        return _open_journal(Path(place.removeprefix(JOURNAL)), may_create)
    url = _parse(place)
    if url.drivername == _PROXY:
        return _open_proxy(url)
    return open_database(url, address_of(place), may_create)


def close_storage(storage: BaseStorage) -> None:
    """Closes the connections of a storage, which opens them again if it is used."""
    storage.remove_session()
    if isinstance(storage, GrpcStorageProxy):
        storage.close()
    engine = getattr(getattr(storage, "_backend", None), "engine", None)
    if isinstance(engine, sa.Engine):
        engine.dispose()


def is_journal(place: str) -> bool:
    """Whether a place is the path of a journal file.

    Example:
        >>> is_journal("runs/journal.log"), is_journal("grpc://localhost:13000")
        (True, False)
    """
    return place.startswith(JOURNAL) or "://" not in place


def is_database(place: str) -> bool:
    """Whether a place is a database that many may write to.

    Example:
        >>> is_database("mysql+pymysql://me@host/studies"), is_database("sqlite:///studies.db")
        (True, False)
    """
    return not is_journal(place) and _parse(place).get_backend_name() not in ("sqlite", _PROXY)


def is_for_one_worker(place: str) -> bool:
    """Whether only one process may write there: SQLite locks its file as a whole."""
    return not is_journal(place) and _parse(place).get_backend_name() == "sqlite"


def address_of(place: str) -> str:
    """The place as it may be shown and recorded: without password.

    Raises:
        ValueError: If the place is none of the known kinds.

    Example:
        >>> address_of("postgresql+psycopg://me:secret@db/studies")
        'postgresql+psycopg://me@db/studies'
    """
    if is_journal(place):
        return place
    url = _parse(place).difference_update_query(_SECRETS)
    return sa.URL.create(
        url.drivername, url.username, None, url.host, url.port, url.database, url.query
    ).render_as_string()


def without_secrets(command: str, places: Iterable[str | None]) -> str:
    """A command as it may be recorded and shown.

    Args:
        command: As a shell takes it.
        places: What it names; None where it names none.

    Example:
        >>> place = "postgresql+psycopg://me:secret@db/studies"
        >>> without_secrets(f"fedhq study report {place} --name s", [place])
        'fedhq study report postgresql+psycopg://me@db/studies --name s'
    """
    words = shlex.split(command)
    for place in filter(None, places):
        words = [word.replace(place, address_of(place)) for word in words]
    return shlex.join(words)


def with_secret(address: str) -> str:
    """The place of a recorded address: with the password of `FEDHQ_STORAGE`, if it is that place.

    Without one PostgreSQL's own ways stand: `PGPASSWORD`, `~/.pgpass`.
    """
    given = os.environ.get(STORAGE_VARIABLE, "")
    return given if given and address_of(given) == address else address


def survive(
    call: Callable[[], _T],
    on_outage: Callable[[], None] | None = None,
    patience_seconds: float = OUTAGE_SECONDS,
) -> _T:
    """Calls again while the storage does not answer: a server may be started anew.

    Args:
        call: What talks to the storage; it must be safe to do twice.
        on_outage: Called each time that it does not answer.
        patience_seconds: For how long.

    Raises:
        StorageError: If it does not answer for so long.
    """
    start, tries = time.monotonic(), 0
    while True:
        try:
            return call()
        except Exception as error:
            if not is_outage(error):
                raise
            if time.monotonic() - start > patience_seconds:
                raise StorageError(
                    f"the storage does not answer for {patience_seconds:g} s: {error}. "
                    "Once it does, the same command resumes."
                ) from error
        if on_outage is not None:
            on_outage()
        time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
        tries += 1


def is_outage(error: BaseException) -> bool:
    """Whether an error is the storage's, not the trial's."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, _OUTAGES):
        return True
    return any(kind.__module__ == "grpc" for kind in type(error).__mro__)


def _parse(place: str) -> sa.URL:
    try:
        url = sa.make_url(place)
    except (sa.exc.ArgumentError, ValueError):  # its message might show the password
        raise ValueError(f"the storage's address cannot be read. Known are {_KNOWN}.") from None
    if url.drivername != _PROXY and url.get_backend_name() not in BACKENDS:
        raise ValueError(f"{url.drivername}:// is no known storage. Known are {_KNOWN}.")
    return url


def _open_journal(path: Path, may_create: bool) -> BaseStorage:
    if path.is_dir():
        raise StorageError(f"{path}: is a folder. Name a file in it: {path / 'journal.log'}.")
    if not path.exists():
        if not may_create:
            raise StorageError(f"{path}: there is no such file. Check the name.")
        if not path.parent.is_dir():
            raise StorageError(f"{path}: its folder is not there. Make it first.")
    elif may_create and not os.access(path, os.W_OK):
        raise StorageError(f"{path}: cannot be written. Check its permissions.")
    try:
        if path.exists():
            check_journal(str(path))
        backend = SharedJournal(str(path)) if CAN_LOCK else JournalFileBackend(str(path))
        return JournalStorage(backend)
    except OSError as error:
        raise StorageError(f"{path}: cannot be opened: {error.strerror}.") from None
    except (ValueError, KeyError, AssertionError) as error:
        raise StorageError(
            f"{path}: is no journal of studies, or a damaged one: {error}. Name another file; this "
            "one was left as it is."
        ) from None


def _open_proxy(url: sa.URL) -> BaseStorage:
    if not url.host or not url.port:
        raise ValueError("a proxy's address must be grpc://host:port, as grpc://localhost:13000.")
    shown = f"grpc://{url.host}:{url.port}"
    if find_spec("grpc") is None:
        raise StorageError(
            f"{shown}: needs grpcio, which is not installed. Run: pip install 'fedhq[storage]'"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=url.host, port=url.port)
    try:
        proxy.wait_server_ready(timeout=_PROXY_SECONDS)
        proxy.get_study_id_from_name("")
    except KeyError:
        return proxy  # it has answered
    except Exception as error:
        proxy.close()
        if not isinstance(error, ConnectionError) and not is_outage(error):
            raise
        said = getattr(error, "details", lambda: "nobody answers")()
        raise StorageError(
            f"{shown}: no proxy of studies answers there: {said}. Start one: "
            f"fedhq study proxy --storage postgresql+psycopg://... --port {url.port}"
        ) from None
    return proxy
