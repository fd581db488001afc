"""Files that the dashboard offers: made when somebody opens them, so that none is ever stale."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts import FileSystemArtifactStore

from ...allocator.errors import FedHQError

_OWN_ID = "fed-"  # hexadecimal, as the dashboard's routes ask for, and no UUID


@dataclass(frozen=True)
class File:
    """A file that is offered in the dashboard, and made when somebody opens it.

    Args:
        name: What it is saved as; its ending says what it is.
        make: Returns its bytes.
    """

    name: str
    make: Callable[[], bytes]

    def as_artifact(self, artifact_id: str) -> dict[str, str | None]:
        """How Optuna describes an artifact of that id."""
        mimetype, encoding = mimetypes.guess_type(self.name)
        return {
            "artifact_id": artifact_id,
            "filename": self.name,
            "mimetype": mimetype or "application/octet-stream",
            "encoding": encoding,
        }


@dataclass(frozen=True)
class Files:
    """The files of a study and of its trials.

    Args:
        of_study: Those of the study.
        of_trial: Those of a trial by its number; empty where it has none (yet).
    """

    of_study: Sequence[File] = ()
    of_trial: Callable[[int], Sequence[File]] = lambda number: ()

    def listed(self, trial: int | None) -> dict[str, File]:
        """The files of a trial, or of the study for None, by the id of the artifact.

        Example:
            >>> list(Files([File("a.csv", bytes), File("b.csv", bytes)]).listed(None))
            ['fed--0', 'fed--1']
        """
        files = self.of_study if trial is None else self.of_trial(trial)
        number = "" if trial is None else f"{trial:x}"
        return {f"{_OWN_ID}{number}-{k}": file for k, file in enumerate(files)}

    def find(self, artifact_id: str) -> File | None:
        """The file of an id; None if it is not one of these."""
        if not artifact_id.startswith(_OWN_ID):
            return None
        number = artifact_id.removeprefix(_OWN_ID).partition("-")[0]
        return self.listed(int(number, 16) if number else None).get(artifact_id)


class OfferedFiles:
    """An artifact store that makes our files when they are opened; all others lie in a folder.

    Args:
        files: Ours.
        folder: Where artifacts lie that people upload; it is made for the first one.
    """

    def __init__(self, files: Files, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._store = FileSystemArtifactStore(folder)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content of an artifact; why it could not be made, where that is so.

        Raises:
            ArtifactNotFound: If there is none of that id.
        """
        file = self._files.find(artifact_id)
        if file is None:
            return self._store.open_reader(artifact_id)
        try:
            return io.BytesIO(file.make())
        except (FedHQError, ValueError, OSError) as error:
            return io.BytesIO(f"{file.name} could not be made: {error}\n".encode())

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keeps an artifact that somebody uploads."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._store.write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Removes an artifact that somebody uploaded; ours lie nowhere.

        Raises:
            ArtifactNotFound: If there is none of that id.
        """
        if self._files.find(artifact_id) is None:
            self._store.remove(artifact_id)
