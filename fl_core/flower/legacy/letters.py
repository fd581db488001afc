"""Between the legacy API and the message API: parameters, instructions, results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import Code, FitIns, FitRes, Parameters, Scalar, Status

from ....allocator.errors import WireError
from ....allocator.strategy import Method
from ...wire.header import require
from ...wire.rounding import RAW_BITS
from ..messages.letters import name_arrays
from ..messages.npy import array_form, read_array
from ..messages.orders import RECORD, Decision, Report, as_text, read_text
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
        config[RECORD] = as_text(decision.to_record())
    return FitIns(to_parameters(message.content.array_records[MODEL]), config)


def to_content(result: FitRes, message: Message, model: ArrayRecord) -> RecordDict:
    """A result as the content of a reply, whatever it holds; it is checked like any reply.

    Raises:
        WireError: If its examples are no count, or a planned client's report is none.
    """
    num_examples, rule = result.num_examples, "0 <= num_examples < 2**32"
    require(0 <= num_examples < 2**32, rule, num_examples)
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
            _METRICS: MetricRecord({EXAMPLES: num_examples}),
            _OWN_METRICS: ConfigRecord(metrics),  # type: ignore[arg-type]
        }
    )
    report = None
    if text is not None and decision is not None:
        report = Report.from_record(read_text(text, "a report"))
    try:
        named = _named(arrays, model, decision, report)
        if decision is not None and _is_whole(report, decision):
            named = _in_types_of(model, named)
            named = pack_update(model, named, decision, num_examples, None)[0]
            report = Report(report.seconds if report else None)
    except WireError:
        named = arrays  # it is refused for its names
    content[MODEL] = named
    if report is not None:
        content[RECORD] = ConfigRecord(dict(report.to_record()))
    return content


def _is_whole(report: Report | None, decision: Decision) -> bool:
    """Whether floats came as they are, since secure aggregation added them up, counters too.

    Whoever has no mod sends them as well: it trained in float, and cannot have done QAT.
    """
    if decision.strategy.wire_bits != RAW_BITS:
        return False
    if report is None:
        return decision.strategy.method is not Method.QAT
    return not report.is_packed


def _named(
    arrays: ArrayRecord, model: ArrayRecord, decision: Decision | None, report: Report | None
) -> ArrayRecord:
    """Arrays by the model's names; of a packed update the payload, and what is not coded."""
    if decision is None or report is None or not report.is_packed:
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


def to_fit_res(content: RecordDict) -> FitRes:
    """A sound reply as the result that the legacy strategy would have got."""
    (arrays,) = content.array_records.values()
    num_examples = content.metric_records[_METRICS][EXAMPLES]
    own: dict[str, Scalar] = dict(content.config_records.get(_OWN_METRICS) or {})  # type: ignore[arg-type]
    assert isinstance(num_examples, int)
    return FitRes(Status(Code.OK, ""), to_parameters(arrays), num_examples, own)
