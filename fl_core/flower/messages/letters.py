"""Where messages and replies of Flower hold a model, a decision and a report: in both APIs.

The message API has records of any names. The legacy one has `fitins.*` and `fitres.*`; its tensors
have numbers for names, and what goes beside them must be a text in its `config` or `metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....allocator.errors import WireError
from ...wire.header import require
from .orders import RECORD, Decision, Report, as_text, read_text
from .tensor_list import TENSORS, list_of_tensors

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, RecordDict

CONFIG, PARAMETERS = "fitins.config", "fitins.parameters"
METRICS, TRAINED = "fitres.metrics", "fitres.parameters"
_EXAMPLES, _COUNT = "fitres.num_examples", "num_examples"


@dataclass(frozen=True, eq=False)
class Letter:
    """A message that holds a decision.

    Args:
        decision: What was decided.
        arrays: The model as it was sent, in the names of the message API.
        is_legacy: Whether it is of the legacy API.
    """

    decision: Decision
    arrays: ArrayRecord
    is_legacy: bool


def open_letter(content: RecordDict) -> Letter | None:
    """Reads a message to train; None if it holds no decision of ours.

    Raises:
        WireError: If its decision is none, or there is no model with it.
    """
    record = content.config_records.get(RECORD)
    if record is not None:
        decision = Decision.from_record(record)
        return Letter(decision, _find(content, decision.arrays_key), is_legacy=False)
    config = content.config_records.get(CONFIG)
    if config is None or RECORD not in config:
        return None
    decision = Decision.from_record(read_text(config[RECORD], "a decision"))
    arrays = _find(content, PARAMETERS)
    if decision.downlink_bits < 32:
        arrays = name_model(arrays)
    return Letter(decision, arrays, is_legacy=True)


def for_the_app(content: RecordDict, letter: Letter, model: ArrayRecord) -> RecordDict:
    """The message as a server without fedhq would have sent it.

    Flower's clipping mods take messages with one `ConfigRecord` only, so ours must go.

    Args:
        content: Of the message; it stays as it is.
        letter: What it holds.
        model: The model, unpacked.
    """
    from flwr.app import ConfigRecord, RecordDict

    own = RecordDict({name: record for name, record in content.items() if name != RECORD})
    if letter.is_legacy:
        config = content.config_records[CONFIG]
        own[PARAMETERS] = model
        own[CONFIG] = ConfigRecord({k: v for k, v in config.items() if k != RECORD})
    else:
        own[letter.decision.arrays_key] = model
    return own


def trained_model(
    content: RecordDict, letter: Letter, model: ArrayRecord
) -> tuple[str, ArrayRecord]:
    """Name and record of the model in a reply.

    Args:
        content: Of the reply.
        letter: What the message held.
        model: That was trained from; in the legacy API tensors are known by their place in it.

    Raises:
        WireError: If there is not exactly one `ArrayRecord`, or a legacy one has other tensors.
    """
    records = [*content.array_records.items()]
    require(len(records) == 1, "a reply holds one ArrayRecord", [name for name, _ in records])
    ((name, trained),) = records
    return name, name_arrays(trained, [*model]) if letter.is_legacy else trained


def examples_of(content: RecordDict, letter: Letter) -> int:
    """Examples behind a reply, as its metrics say; 0 if they name no whole number."""
    key = _COUNT if letter.is_legacy else letter.decision.examples_key
    for record in content.metric_records.values():
        value = record.get(key)
        if isinstance(value, int | float) and 0 <= value < 2**32 and value == int(value):
            return int(value)
    return 0


def seal_reply(
    content: RecordDict, letter: Letter, name: str, update: ArrayRecord, report: Report
) -> RecordDict:
    """A reply with the update in place of the model, and the report.

    Args:
        content: Of the app's reply; it stays as it is.
        letter: What the message held.
        name: Of the model's record in it.
        update: The update, packed.
        report: What the client says of its training.
    """
    from flwr.app import RecordDict

    packed = number(update) if letter.is_legacy else update
    return with_report(RecordDict({**content, name: packed}), letter, report)


def with_report(content: RecordDict, letter: Letter, report: Report) -> RecordDict:
    """A reply with the report beside what it holds.

    Args:
        content: Of the reply; it stays as it is.
        letter: What the message held.
        report: What the client says of its training.
    """
    from flwr.app import ConfigRecord, RecordDict

    if not letter.is_legacy:
        return RecordDict({**content, RECORD: ConfigRecord(dict(report.to_record()))})
    metrics = dict(content.config_records.get(METRICS) or {})
    told = ConfigRecord({**metrics, RECORD: as_text(report.to_record())})
    return RecordDict({**content, METRICS: told})


def number(arrays: ArrayRecord) -> ArrayRecord:
    """The arrays in their order, named 0, 1, ..., as the legacy API names them."""
    from flwr.app import ArrayRecord

    return ArrayRecord({str(place): array for place, array in enumerate(arrays.values())})


def name_arrays(arrays: ArrayRecord, names: list[str]) -> ArrayRecord:
    """Undoes `number`.

    Raises:
        WireError: If there are more or fewer arrays than names.
    """
    from flwr.app import ArrayRecord

    require(len(arrays) == len(names), f"{len(names)} arrays", len(arrays))
    return ArrayRecord(dict(zip(names, arrays.values(), strict=True)))


def name_model(arrays: ArrayRecord) -> ArrayRecord:
    """Undoes `number` for a packed model, which lists what is in it.

    Raises:
        WireError: If it is no packed model.
    """
    values = [*arrays.values()]
    require(len(values) >= 2, "a packed model has at least two arrays", len(values))
    plain = [entry for entry in list_of_tensors(values[1]) if isinstance(entry, str)]
    return name_arrays(arrays, [RECORD, TENSORS, *plain])


def _find(content: RecordDict, name: str) -> ArrayRecord:
    arrays = content.array_records.get(name)
    if arrays is None:
        raise WireError(
            f"`a decision comes with its model` must hold, but there is no ArrayRecord {name!r}."
        )
    return arrays
