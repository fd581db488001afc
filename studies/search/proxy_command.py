"""`fedhq study proxy`: a gRPC proxy before a database, so that many workers share connections."""

from __future__ import annotations

import argparse
import os
import socket
import warnings
from importlib.util import find_spec

_EPILOG = """Workers then take --storage grpc://HOST:PORT. The proxy reads a finished trial once for
all of them, and they need neither the database's driver nor its password.

Whoever reaches the port can read and change all studies there: listen elsewhere than on 127.0.0.1
only in a network that you trust.

examples:
  fedhq study proxy --storage postgresql+psycopg://me@db/studies
  FEDHQ_STORAGE=postgresql+psycopg://me:secret@db/studies fedhq study proxy --host 10.0.0.5
  fedhq study search my.toml --storage grpc://10.0.0.5:13000 --workers 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options, and what it does."""
    parser.description = "Serves the studies of a database by gRPC, until Ctrl-C."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="postgresql+psycopg://... or mysql+pymysql://... (default: $FEDHQ_STORAGE)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=13000, help="to listen on (default: %(default)s)"
    )
    parser.set_defaults(command=run, resumes=False)


def run(options: argparse.Namespace) -> None:
    """Runs the command until Ctrl-C.

    Raises:
        ValueError: If the storage cannot stand behind a proxy, or it cannot listen there.
        StorageError: If the storage cannot be opened, or gRPC is not installed.
    """
    from .storage.errors import StorageError
    from .storage.places import STORAGE_VARIABLE, address_of, close_storage, open_storage

    place = _checked(options.storage or os.environ.get(STORAGE_VARIABLE))
    _check_port(options.host, options.port)
    if find_spec("grpc") is None:
        raise StorageError(
            "the proxy needs grpcio, which is not installed. Run: pip install 'fedhq[storage]'"
        )
    from optuna import logging
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import run_grpc_proxy_server

    logging.set_verbosity(logging.WARNING)
    storage = open_storage(place, may_create=True)
    print(
        f"grpc://{options.host}:{options.port} serves {address_of(place)}; Ctrl-C ends it",
        flush=True,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            run_grpc_proxy_server(storage, host=options.host, port=options.port)
    except KeyboardInterrupt:
        print("ended")
    finally:
        close_storage(storage)


def _checked(place: str | None) -> str:
    """A storage that can stand behind a proxy."""
    from .storage.places import STORAGE_VARIABLE, is_database

    if place is None:
        raise ValueError(f"--storage: is required. Name a database, or set {STORAGE_VARIABLE}.")
    if not is_database(place):
        raise ValueError(
            "--storage: must be PostgreSQL or MySQL behind a proxy. A journal file needs none: "
            "workers of one machine, or of a shared folder, write to it themselves; SQLite bears "
            "one worker only; a proxy stands behind no other."
        )
    return place


def _check_port(host: str, port: int) -> None:
    """GRPC shares a port that another serves without a word."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: must lie in 1 ... 65535.")
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.bind(address)
    except OSError as error:
        raise ValueError(
            f"--host {host} --port {port}: cannot listen there: {error.strerror or error}. "
            "Take another port, or end who listens there."
        ) from None
