"""Between the legacy API and the message API: parameters, instructions, results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import Code, FitIns, FitRes, Parameters, Scalar, Status

from ....allocator.errors import WireError
from ....allocator.strategy import Method
from ...wire.rounding import RAW_BITS
from ..messages.letters import name_arrays
from ..messages.npy import array_form, read_array
from ..messages.orders import RECORD, Decision, Report
from ..messages.packing import STATISTICS, pack_update

MODEL, CONFIG = "arrays", "config"
"""Records of a message that stands for instructions."""

EXAMPLES = "num-examples"
"""The metric of a reply that stands for a result."""

_METRICS, _OWN_METRICS = "metrics", "fit-metrics"
_NUMPY = "numpy.ndarray"


def to_arrays(parameters: Parameters, names: Sequence[str] | None) -> ArrayRecord:
    """Parameters as a record: numbers for names, and what tells running statistics.

    Args:
        parameters: Of the legacy API.
        names: Of its tensors; None where nobody knows them.

    Raises:
        ValueError: If there are more or fewer names.
        WireError: If a tensor is no NumPy array.
    """
    count = len(parameters.tensors)
    if names is not None and len(names) != count:
        raise ValueError(
            f"`tensor_names` must name the {count} parameters, but are {len(names)}. Take the "
            "keys of the state dict that the parameters are made of."
        )
    record = ArrayRecord()
    for place, data in enumerate(parameters.tensors):
        last = names[place].rpartition(".")[2] if names else ""
        name = f"{place}.{last}" if last in STATISTICS else str(place)
        dtype, shape = array_form(name, Array("", (), parameters.tensor_type, data))
        record[name] = Array(str(dtype), shape, parameters.tensor_type, data)
    return record


def to_parameters(arrays: ArrayRecord) -> Parameters:
    """A record as parameters, in its order."""
    return Parameters([array.data for array in arrays.values()], _NUMPY)


def _decision(message: Message) -> Decision | None:
    record = message.content.config_records.get(RECORD)
    return None if record is None else Decision.from_record(record)


def to_fit_ins(message: Message) -> FitIns:
    """A message as instructions; the decision is a text among them."""
    config: dict[str, Scalar] = dict(message.content.config_records[CONFIG])  # type: ignore[arg-type]
    decision = _decision(message)
    if decision is not None:
        config[RECORD] = decision.to_text()
    return FitIns(to_parameters(message.content.array_records[MODEL]), config)


def to_content(result: FitRes, message: Message, model: ArrayRecord) -> RecordDict:
    """A result as the content of a reply, whatever it holds; it is checked like any reply."""
    arrays = ArrayRecord(
        {
            str(place): Array("", (), result.parameters.tensor_type, data)
            for place, data in enumerate(result.parameters.tensors)
        }
    )
    metrics = dict(result.metrics)
    text, decision = metrics.pop(RECORD, None), _decision(message)
    content = RecordDict(
        {
            _METRICS: MetricRecord({EXAMPLES: result.num_examples}),
            _OWN_METRICS: ConfigRecord(metrics),  # type: ignore[arg-type]
        }
    )
    report = None if text is None else _read_report(text)
    if report is not None:
        content[RECORD] = report
    is_packed = report is not None and report.get("packed") is not False
    try:
        content[MODEL] = named = _named(arrays, model, decision, is_packed)
        if decision is not None and not is_packed and _may_be_floats(decision, report):
            # Floats came as they are: secure aggregation added them up, counters too.
            named, count = _in_types_of(model, named), _sound(result.num_examples)
            content[MODEL] = pack_update(model, named, decision, count, None)[0]
            if report is None:
                content[RECORD] = ConfigRecord(dict(Report(None).to_record()))
    except WireError:
        content[MODEL] = arrays  # it is refused for its names
    return content


def _may_be_floats(decision: Decision, report: ConfigRecord | None) -> bool:
    """Whether what was decided gives a float model; without the mod nobody does QAT."""
    is_done = report is not None or decision.strategy.method is not Method.QAT
    return is_done and decision.strategy.wire_bits == RAW_BITS


def _sound(num_examples: int) -> int:
    """As the payload's header holds it; 0, for which a reply is refused, where it cannot."""
    return num_examples if 0 <= num_examples < 2**32 else 0


def _named(
    arrays: ArrayRecord, model: ArrayRecord, decision: Decision | None, is_packed: bool
) -> ArrayRecord:
    """Arrays by the model's names; of a packed update the payload, and what is not coded."""
    if decision is None or not is_packed:
        return name_arrays(arrays, [*model])
    coded = set(decision.names)
    return name_arrays(arrays, [RECORD, *(name for name in model if name not in coded)])


def _in_types_of(model: ArrayRecord, arrays: ArrayRecord) -> ArrayRecord:
    """Means in the types of the model; what is not finite stays, and is refused."""
    record = ArrayRecord()
    for name, array in arrays.items():
        dtype, values = array_form(name, model[name])[0], read_array(name, array)
        if values.dtype != dtype and np.isfinite(values).all():
            values = np.rint(values) if dtype.kind in "iu" else values
            array = Array(np.asarray(values.astype(dtype)))
        record[name] = array
    return record


def _read_report(text: Scalar) -> ConfigRecord:
    try:
        return ConfigRecord(dict(Report.from_text(text).to_record()))
    except WireError:
        return ConfigRecord({"unreadable": True})  # it is refused for that


def to_fit_res(content: RecordDict) -> FitRes:
    """A sound reply as the result that the legacy strategy would have got."""
    (arrays,) = content.array_records.values()
    num_examples = content.metric_records[_METRICS][EXAMPLES]
    own: dict[str, Scalar] = dict(content.config_records.get(_OWN_METRICS) or {})  # type: ignore[arg-type]
    assert isinstance(num_examples, int)
    return FitRes(Status(Code.OK, ""), to_parameters(arrays), num_examples, own)
