"""Makes the study of a search, or opens it again if it is the same search."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from ...provenance import Provenance
from ..record import (
    PROVENANCE_KEY,
    SOURCE_KEY,
    STUDY_KEY,
    StudyRecord,
    study_record,
    to_json,
)
from ..workers.leases import PROPOSAL_KEY
from ..workers.signature import Worker
from .errors import StudyError
from .places import address_of, close_storage, open_storage
from .study_file import StudyFile, folder_of

PROPOSER_KEY = "proposer"
"""A study's user attribute: the process that enqueues what is tried first."""
PROPOSED_KEY = "proposed"
"""A study's user attribute: how many trials were enqueued first; there once all are."""
PACKAGES = ("optuna", "torch", "highspy")

_RECORD_SECONDS = 5.0
_PROPOSER_SECONDS = 60.0
_POLL_SECONDS = 0.1
_SETTLING_SECONDS = 0.5  # in which all who adopt a study have seen each other
_MOST_DIFFERENCES = 12

Proposal = tuple[Mapping[str, Any], str]
"""What is tried first: parameters as Optuna has them, and who proposed them, one of `SOURCES`."""


@dataclass(frozen=True)
class Wanted:
    """What a study must be, so that a search may go on in it.

    Args:
        config: The resolved configuration, as JSON values.
        digest: Of what counts of it.
        objectives: Names of what is minimised, in order.
        free: Dotted keys of the configuration that may differ.
    """

    config: Mapping[str, Any]
    digest: str
    objectives: tuple[str, ...]
    free: Collection[str] = ()


def open_study(
    storage: BaseStorage, name: str, wanted: Wanted, make_record: Callable[[], StudyRecord]
) -> Study:
    """Opens a study, or makes it; of several who start at once, one makes it.

    Args:
        storage: Where it is.
        name: Its name there.
        wanted: What it must be.
        make_record: Called if the study is not there yet.

    Returns:
        The study; its record knows what this process runs on.

    Raises:
        StudyError: If a study of this name is there that is not the one wanted. It is left as it
            was.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        study = _make(storage, name, make_record())
    record = _record_of(study) or _adopt(study, wanted, make_record)
    _check(study, record, wanted)
    if study.metric_names is None:
        _name_metrics(study, record)  # who made it died before
    add_provenance(study)
    return study


def add_provenance(study: Study) -> None:
    """Notes what this process runs on, in an attribute of its own, if nothing alike stands yet."""
    here = Provenance.here(PACKAGES)
    key = PROVENANCE_KEY + here.key
    if key not in study.user_attrs:
        study.set_user_attr(key, asdict(here))


def propose(study: Study, make_proposals: Callable[[], Sequence[Proposal]]) -> None:
    """Enqueues what is tried first, once for a study whoever opens it and dies meanwhile.

    Args:
        study: Opened by `open_study`.
        make_proposals: Called by who enqueues them; it must return the same for all.
    """
    if _is_proposed(study):
        return
    study.set_user_attr(PROPOSER_KEY, asdict(Worker.here()))
    proposals = make_proposals()
    there = {t.user_attrs.get(PROPOSAL_KEY) for t in study.get_trials(deepcopy=False)}
    for k, (params, source) in enumerate(proposals):
        if k not in there:
            study.enqueue_trial(dict(params), {SOURCE_KEY: source, PROPOSAL_KEY: k})
    study.set_user_attr(PROPOSED_KEY, len(proposals))


def read_search(place: Path | str, name: str | None = None) -> Study:
    """Opens a study to read it; makes and changes nothing.

    Args:
        place: A search's folder, or a storage as `open_storage` takes it.
        name: Of the study; that of the folder, or the only one there, where None.

    Raises:
        ValueError: If several studies are there and none is named.
        StudyError: If there is no such study.
        StorageError: If the storage cannot be opened.
    """
    text = str(place)
    if (folder := folder_of(text)) is not None:
        known = StudyFile.read(folder)
        if known is None:
            raise StudyError(f"{text}: holds no search. Name the --out of a `fedhq study search`.")
        text, name = known.place(folder), name or known.study
    storage = open_storage(text)
    try:
        return optuna.load_study(study_name=_one_of(storage, name, text), storage=storage)
    except BaseException:
        close_storage(storage)
        raise


def _one_of(storage: BaseStorage, name: str | None, place: str) -> str:
    names = [study.study_name for study in storage.get_all_studies()]
    if name is None and len(names) == 1:
        return names[0]
    known = ", ".join(map(repr, names)) or "none"
    if name is None and names:
        raise ValueError(f"{address_of(place)}: holds several studies. --name one of {known}.")
    if name not in names:
        asked = "a study" if name is None else f"the study {name!r}"
        raise StudyError(f"{address_of(place)}: has not {asked}; studies there: {known}.")
    assert name is not None
    return name


def _make(storage: BaseStorage, name: str, record: StudyRecord) -> Study:
    directions = [StudyDirection.MINIMIZE] * len(record.objectives)
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
    except DuplicatedStudyError:  # somebody else was faster
        return optuna.load_study(study_name=name, storage=storage)
    _write_record(study, record)
    return study


def _write_record(study: Study, record: StudyRecord) -> None:
    """At once after the study is made: whoever is killed in between leaves it to the next."""
    study.set_user_attr(PROPOSER_KEY, asdict(Worker.here()))
    study.set_user_attr(STUDY_KEY, to_json(record))
    _name_metrics(study, record)


def _name_metrics(study: Study, record: StudyRecord) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(record.objectives))


def _record_of(study: Study) -> StudyRecord | None:
    """A study's record; None if who made the study has died, or surely would have written it."""
    deadline = time.monotonic() + _RECORD_SECONDS
    while (record := study_record(attributes := study.user_attrs)) is None:
        maker = Worker.of(attributes, PROPOSER_KEY)
        if maker is not None and maker.is_known_dead:
            return None
        if study.get_trials(deepcopy=False) or time.monotonic() > deadline:
            return None
        time.sleep(_POLL_SECONDS)
    return record


def _adopt(study: Study, wanted: Wanted, make_record: Callable[[], StudyRecord]) -> StudyRecord:
    """Makes an empty study, whose maker left it without a record, into the search's.

    Returns:
        The record that it has now; of several who adopt it, that of who signed last.

    Raises:
        StudyError: If it is not empty, or has other directions: then it is somebody else's.
    """
    alien = study.user_attrs.keys() - {PROPOSER_KEY}
    directions = [StudyDirection.MINIMIZE] * len(wanted.objectives)
    if alien or study.get_trials(deepcopy=False) or study.directions != directions:
        raise StudyError(
            f"the study {study.study_name!r} is there, but is no search of this fedhq: it has no "
            "record of one. Take another --name; this study was left as it is."
        )
    record = make_record()
    if study_record(study.user_attrs) is None:  # still
        study.set_user_attr(PROPOSER_KEY, asdict(Worker.here()))
        time.sleep(_SETTLING_SECONDS)
        if Worker.of(study.user_attrs, PROPOSER_KEY) == Worker.here():
            _write_record(study, record)
    return _record_of(study) or _adopt(study, wanted, make_record)


def _check(study: Study, record: StudyRecord, wanted: Wanted) -> None:
    named = f"the study {study.study_name!r}"
    mend = "Take another --name or --out"
    directions = [direction.name.lower() for direction in study.directions]
    if record.objectives != wanted.objectives or set(directions) != {"minimize"}:
        there = ", ".join(
            f"{way} {what}" for way, what in zip(directions, record.objectives, strict=False)
        )
        asked = ", ".join(f"minimize {what}" for what in wanted.objectives)
        raise StudyError(f"{named} has other objectives: {there}; asked for: {asked}. {mend}.")
    if record.digest != wanted.digest:
        lines = list(_differences(record.config, wanted.config, wanted.free))
        rest = len(lines) - _MOST_DIFFERENCES
        more = [f"... and {rest} more"] if rest > 0 else []
        told = "".join(f"\n  {line}" for line in lines[:_MOST_DIFFERENCES] + more)
        raise StudyError(
            f"{named} has another configuration, so its trials are not comparable (there -> "
            f"asked for):{told}\n{mend}, or the old values; the study was left as it is."
        )


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], free: Collection[str]
) -> Iterator[str]:
    before, after = dict(_leaves("", old)), dict(_leaves("", new))
    for key in dict.fromkeys([*before, *after]):
        values = [json.dumps(t[key]) if key in t else "nothing" for t in (before, after)]
        if values[0] != values[1] and key not in free:
            yield f"{key}: {values[0]} -> {values[1]}"


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, inner in value.items():
        yield from _leaves(f"{key}.{name}" if key else name, inner)


def _is_proposed(study: Study) -> bool:
    """Waits for who does it, unless that is this process, or a dead one, or it takes too long."""
    deadline = time.monotonic() + _PROPOSER_SECONDS
    while PROPOSED_KEY not in (attributes := study.user_attrs):
        proposer = Worker.of(attributes, PROPOSER_KEY)
        if proposer is None or proposer == Worker.here() or proposer.is_known_dead:
            return False
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
