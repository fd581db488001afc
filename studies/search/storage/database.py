"""Opens studies in a database, and refuses one that is not there or belongs to somebody else."""

from __future__ import annotations

import enum
import time
from pathlib import Path

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from .errors import StorageError

BACKENDS = ("postgresql", "mysql", "sqlite")
_PATIENCE_SECONDS = 10.0
_CONNECT_SECONDS = 10
_POLL_SECONDS = 0.2
_COLUMNS = {
    "studies": {"study_id", "study_name"},
    "trials": {"trial_id", "number", "study_id", "state"},
    "version_info": {"schema_version", "library_version"},
    "alembic_version": {"version_num"},
}
_TABLES = {
    *_COLUMNS,
    "study_directions",
    "study_user_attributes",
    "study_system_attributes",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_heartbeats",
}
_LOGIN = "Check user and password, which may stand in FEDHQ_STORAGE or PGPASSWORD"
_MENDS = (
    ("authentication", _LOGIN),
    ("password", _LOGIN),
    ("Access denied", _LOGIN),
    ("does not exist", "Make the database first, for instance by `createdb`"),
    ("Unknown database", "Make the database first, by CREATE DATABASE"),
    ("not a database", "Name another file"),
    ("unable to open", "Check that its folder is there and can be written"),
)
_MEND = "Check that the server runs, and the host and port"


class _Holds(enum.Enum):
    """What stands in a database."""

    NOTHING = enum.auto()
    STUDIES = enum.auto()
    PART = enum.auto()  # somebody else makes Optuna's tables just now
    OTHERS = enum.auto()


def open_database(url: sa.URL, shown: str, may_create: bool) -> BaseStorage:
    """Opens Optuna's tables in a database.

    Args:
        url: Where it is.
        shown: The same without password, for messages.
        may_create: Whether tables are made in an empty database.

    Returns:
        The storage, which reads finished trials once.

    Raises:
        StorageError: If the database cannot be reached, holds something else, holds nothing and
            must not be changed, or is of another version of Optuna. It is left as it was.
    """
    _check_file(url, shown, may_create)
    engine = _make_engine(url, shown)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        while True:
            try:
                holds = _look(engine)
                if holds is _Holds.STUDIES or (holds is _Holds.NOTHING and may_create):
                    _prepare(url, shown, is_new=holds is _Holds.NOTHING)
                    options = {"pool_pre_ping": True, "connect_args": _connect_args(url)}
                    # Tables and version are checked: no more of that.
                    return get_storage(
                        RDBStorage(_text(url), options, True, skip_table_creation=True)
                    )
            except (SQLAlchemyError, StorageInternalError) as error:
                if time.monotonic() > deadline or not _is_race(error):
                    raise StorageError(_cannot_open(shown, error)) from None
            else:
                if holds is not _Holds.PART or time.monotonic() > deadline:
                    raise StorageError(_refusal(shown, holds))
            time.sleep(_POLL_SECONDS)
    finally:
        engine.dispose()


def _check_file(url: sa.URL, shown: str, may_create: bool) -> None:
    """SQLite makes a file by opening it, and a study in memory is gone with its process."""
    if url.get_backend_name() != "sqlite":
        return
    if not url.database or ":memory:" in url.database:
        raise StorageError(f"{shown}: is gone with this process. Name a file: sqlite:///FILE.")
    if not may_create and not Path(url.database).is_file():
        raise StorageError(f"{shown}: there is no such file. Check the name.")


def _make_engine(url: sa.URL, shown: str) -> sa.Engine:
    try:
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=_connect_args(url))
    except ModuleNotFoundError as error:
        raise StorageError(
            f"{shown}: needs {error.name}, which is not installed. "
            "Run: pip install 'fedhq[storage]'"
        ) from None
    except NoSuchModuleError:
        raise StorageError(
            f"{shown}: SQLAlchemy knows no driver {url.get_driver_name()!r}. "
            "Take postgresql+psycopg:// or mysql+pymysql://."
        ) from None


def _connect_args(url: sa.URL) -> dict[str, int]:
    if url.get_backend_name() == "sqlite" or "connect_timeout" in url.query:
        return {}
    return {"connect_timeout": _CONNECT_SECONDS}


def _look(engine: sa.Engine) -> _Holds:
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        tables = set(inspector.get_table_names())
        if not tables:
            return _Holds.NOTHING
        ours = _COLUMNS.keys() & tables
        for name in ours:
            if not _COLUMNS[name] <= {column["name"] for column in inspector.get_columns(name)}:
                return _Holds.OTHERS
        if ours < _COLUMNS.keys():
            return _Holds.PART if tables <= _TABLES else _Holds.OTHERS
        is_stamped = connection.execute(sa.text("SELECT count(*) FROM alembic_version")).scalar()
        return _Holds.STUDIES if is_stamped else _Holds.PART


def _text(url: sa.URL) -> str:
    """The address as Optuna takes it, for a format string."""
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")


def _prepare(url: sa.URL, shown: str, is_new: bool) -> None:
    """Makes the tables, or checks whose version they are; it leaves no connection open."""
    options = {"poolclass": sa.NullPool, "connect_args": _connect_args(url)}
    try:
        RDBStorage(_text(url), options, skip_table_creation=not is_new)
    except RuntimeError as error:
        raise StorageError(
            f"{shown}: its tables are of another version of Optuna, and were left as they are. "
            f"{error}"
        ) from None


def _is_race(error: Exception) -> bool:
    """Whether it failed because somebody else made the tables at the same time."""
    text = str(error.__cause__ or error)
    return any(sign in text for sign in ("already exists", "duplicate key", "Duplicate entry"))


def _cannot_open(shown: str, error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    said = str(getattr(cause, "orig", None) or cause).strip()
    mend = next((mend for sign, mend in _MENDS if sign in said), _MEND)
    return f"{shown}: cannot be opened: {_one_line(said)}. {mend}; nothing was changed."


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _refusal(shown: str, holds: _Holds) -> str:
    if holds is _Holds.NOTHING:
        return f"{shown}: holds no studies yet. Start one there: fedhq study search --storage ..."
    if holds is _Holds.PART:
        return (
            f"{shown}: some of Optuna's tables are missing; who made them was stopped, or still "
            "does. Wait, or make a new database; this one was left as it is."
        )
    return (
        f"{shown}: `an empty database or one of Optuna's` must hold, but it has tables of "
        "something else. Make a database of its own for studies; this one was left as it is."
    )
