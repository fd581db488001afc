"""The file in a search's folder that says which study it is, and where that stands."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa

from ...writing import write_at_once
from .errors import StudyError
from .places import (
    JOURNAL,
    STORAGE_VARIABLE,
    address_of,
    is_for_one_worker,
    is_journal,
    with_secret,
)

STUDY_FILE = "study.json"
JOURNAL_FILE = "journal.log"


@dataclass(frozen=True)
class StudyFile:
    """What stands in `study.json`.

    Args:
        study: The study's name in its storage.
        storage: Address of the storage, without password; a journal's path is relative to the
            folder, so that the folder can be moved.
        digest: Of the configuration.
    """

    study: str
    storage: str
    digest: str

    @classmethod
    def of(cls, folder: Path, place: str, study: str, digest: str) -> StudyFile:
        """That of a study at a place."""
        return cls(study, _address_in(folder, place), digest)

    @classmethod
    def read(cls, folder: Path) -> StudyFile | None:
        """That of a folder; None if the folder has none.

        Raises:
            StudyError: If the file is not one of fedhq's.
        """
        path = folder / STUDY_FILE
        try:
            table = json.loads(path.read_bytes())
            return cls(str(table["study"]), str(table["storage"]), str(table["digest"]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):
            raise StudyError(
                f"{path}: says not where a study is. Take another folder, or remove the file."
            ) from None

    def write(self, folder: Path) -> None:
        """Writes the file into a folder, unless it stands there already."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        path = folder / STUDY_FILE
        if not path.exists() or path.read_text("utf-8") != text:
            write_at_once(path, text)

    def place(self, folder: Path) -> str:
        """Where `open_storage` finds the study; `FEDHQ_STORAGE` may bring the password."""
        if is_journal(self.storage):
            return str(folder / self.storage.removeprefix(JOURNAL))
        return with_secret(self.storage)


def folder_of(place: str) -> Path | None:
    """A place that is a search's folder; None where it is a storage."""
    return Path(place) if is_journal(place) and Path(place).is_dir() else None


def settle(folder: Path, place: str | None, name: str | None) -> tuple[str, str]:
    """Where a search is to be, and its name: what is given, else what the folder says, else new.

    A new one is at `FEDHQ_STORAGE`, or else in a journal in the folder, and named like the folder.

    Args:
        folder: The search's.
        place: As `open_storage` takes it.
        name: Of the study.

    Returns:
        The place and the name.

    Raises:
        ValueError: If the folder belongs to another study than what is given.
    """
    known = StudyFile.read(folder)
    if known is None:
        place = place or os.environ.get(STORAGE_VARIABLE) or str(folder / JOURNAL_FILE)
        return place, name or folder.resolve().name
    if name not in (None, known.study):
        raise ValueError(
            f"--out {folder}: holds the study {known.study!r}, not {name!r}. Take another --out, "
            "or leave --name out."
        )
    if place is None:
        return known.place(folder), known.study
    if _address_in(folder, place) != known.storage:
        raise ValueError(
            f"--out {folder}: its study stands at {known.storage}, not at {address_of(place)}. "
            "Take another --out, or leave --storage out."
        )
    return place, known.study


def _address_in(folder: Path, place: str) -> str:
    if is_journal(place):
        path = Path(place.removeprefix(JOURNAL)).resolve()
        here = folder.resolve()
        return JOURNAL + str(path.relative_to(here) if path.is_relative_to(here) else path)
    if is_for_one_worker(place):
        url = sa.make_url(place)
        place = url.set(database=os.path.abspath(url.database or "")).render_as_string(False)
    return address_of(place)
