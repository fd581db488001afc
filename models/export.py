"""Writes a converted model as ONNX: integer weights, quantize and dequantize nodes.

Every weight that the model quantizes is stored as int8, or int4 up to 4 bits, and dequantized by
its own scales; every input that it quantizes passes `QuantizeLinear` and `DequantizeLinear` as
uint8, clipped to its codes below 8 bits. All else stays float, as in the model. Runtimes are free
to compute in integers; onnxruntime on a CPU seldom does: low bits promise small files, not speed.

A runtime adds in an order of its own, so that a rounded input now and then gets the next code;
accuracies agree all the same. One known exception: where onnxruntime multiplies 8-bit weights as
integers, on x86 CPUs with AVX2 or AVX-512 but no VNNI, its sums may saturate.

Needs `pip install 'fedhq[export]'`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from onnxscript import ir
from torch import Tensor, nn

from .evaluate import evaluating
from .export_codes import WeightCodes, converted_layers, layer_codes, weight_quantizers
from .export_trace import INPUT, OUTPUT, muted, trace

_INT4_BITS = 4


def export_onnx(model: nn.Module, example_input: Tensor, path: Path) -> None:
    """Writes a converted model as an ONNX file, whole or not at all.

    The graph has one input, `input`, and one output, `logits`, whose first dimension is free. The
    file's metadata holds the bits and the version of fedhq. Equal models give equal bytes.

    Args:
        model: A converted model, from `convert_` or `deploy`, on the CPU.
        example_input: `(examples, ...)`, at least one example; gives the other dimensions.
        path: The file; its folder must exist.

    Raises:
        ValueError: If the model is not converted, or does not take the example.
        OSError: If the file cannot be written; what stood there stays.

    References:
        https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html

    Example:
        >>> import tempfile
        >>> from .convert import deploy
        >>> from .recipe import Recipe
        >>> images = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
        >>> model = deploy(nn.Sequential(nn.Linear(4, 2)), Recipe(4, 8), [images])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_onnx(model, images, Path(folder, "model.onnx"))
        ...     logits = OnnxModel(Path(folder, "model.onnx"))(images)
        >>> bool((logits - model(images)).abs().max() < 1e-5)
        True
    """
    _require_float32(model)
    weights = _weights(model)
    _check_example(model, example_input)
    program = trace(model, example_input)
    for name, weight in weights.items():
        if name in program.model.graph.initializers:  # a shared weight is there once
            _store_as_integers(program.model.graph, name, weight)
    with muted():
        program.optimize()
    _describe(program.model, model)
    _write_at_once(path, ir.to_proto(program.model).SerializeToString(deterministic=True))


def _require_float32(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"a model that is exported must be float32, but {name!r} is {parameter.dtype}. "
                "Deploy `model.float()`."
            )


class OnnxModel(nn.Module):
    """An ONNX file as a module that onnxruntime runs on the CPU, for checks and evaluation.

    With `session.qdq_matmulnbits_accuracy_level` at 1: a session without it rounds the float inputs
    of 8-bit linear layers to 8 bits as well.

    Args:
        path: What `export_onnx` wrote.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        self._session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """From `(examples, ...)` inputs to the logits of the exported model."""
        (logits,) = self._session.run([OUTPUT], {INPUT: inputs.numpy()})
        return torch.from_numpy(logits)


def _weights(model: nn.Module) -> dict[str, WeightCodes]:
    """Every quantized weight by its name in the model, a shared one by each of its names."""
    codes = {
        id(layer.get_parameter(own)): weight
        for name, layer in converted_layers(model)
        for own, weight in layer_codes(name, layer)
    }
    parameters = model.named_parameters(remove_duplicate=False)
    return {name: codes[id(weight)] for name, weight in parameters if id(weight) in codes}


def _check_example(model: nn.Module, example_input: Tensor) -> None:
    shape = tuple(example_input.shape)
    if not shape or shape[0] < 1:
        raise ValueError(
            f"`example_input` must hold at least one example, but its shape is {shape}."
        )
    try:
        with evaluating(model):
            model(example_input[:1])
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"`example_input` must be a batch that the model takes, but shape {shape} of "
            f"{example_input.dtype} is not: {error}"
        ) from error


def _store_as_integers(graph: ir.Graph, name: str, weight: WeightCodes) -> None:
    """Replaces a float initializer by its codes, its scales, and the node that joins them."""
    codes, attributes = weight.codes, {"axis": 0}
    is_grouped = weight.scale.dim() == 2
    if is_grouped:
        codes, attributes = codes.flatten(1), {"axis": 1, "block_size": weight.group_size}
    dtype = ml_dtypes.int4 if weight.bits <= _INT4_BITS else np.int8
    floats = graph.initializers.pop(name)
    inputs = [
        _constant(graph, f"{name}.codes", codes.numpy().astype(dtype)),
        _constant(graph, f"{name}.scale", weight.scale.numpy()),
        # All zero, and optional, but without them onnxruntime 1.24 mistakes the codes' type.
        _constant(graph, f"{name}.zero_point", np.zeros(weight.scale.shape, dtype)),
    ]
    nodes = [ir.node("DequantizeLinear", inputs, attributes)]
    if is_grouped and weight.codes.dim() > 2:
        shape = _constant(graph, f"{name}.shape", np.array(weight.codes.shape, np.int64))
        nodes.append(ir.node("Reshape", [nodes[0].outputs[0], shape]))
    output = nodes[-1].outputs[0]
    output.name, output.shape, output.type = name, floats.shape, floats.type
    ir.convenience.replace_all_uses_with(floats, output)
    graph.insert_before(graph[0], nodes)


def _constant(graph: ir.Graph, name: str, values: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(values, name=name)
    shape, kind = ir.Shape(values.shape), ir.TensorType(tensor.dtype)
    value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def _describe(written: ir.Model, model: nn.Module) -> None:
    """Says who wrote it at which bits, and drops the exporter's traces of source files."""
    for node in written.graph.all_nodes():
        node.metadata_props.clear()
    inputs = [layer.input_quantizer for _, layer in converted_layers(model)]
    version = metadata.version("fedhq")
    written.producer_name, written.producer_version = "fedhq", version
    written.metadata_props.clear()
    written.metadata_props["fedhq_version"] = version
    written.metadata_props["weight_bits"] = _bits_text(q.bits for q in weight_quantizers(model))
    written.metadata_props["activation_bits"] = _bits_text(q.bits for q in inputs if q is not None)


def _bits_text(bits: Iterable[int]) -> str:
    """Distinct bits in order, "float" where there are none."""
    return ",".join(map(str, sorted(set(bits)))) or "float"


def _write_at_once(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
