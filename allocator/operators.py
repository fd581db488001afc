"""What one training step computes, operator by operator: counts without times, tensors or torch.

`models.list_operators` makes these lists, `roofline` turns them into seconds, bytes and joules.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from .strategy import Method, Strategy


class OperatorKind(StrEnum):
    """What an operator's time goes with."""

    VIEW = "view"
    """Looks at the same memory in another shape."""
    POINTWISE = "pointwise"
    """Reads and writes: activations, normalisation, copies."""
    UPDATE = "update"
    """The optimizer's, which takes a list of tensors one by one."""
    POOLING = "pooling"
    """Torch's own max pooling, forward: a branch a value that no processor foretells."""
    MATMUL = "matmul"
    """A product of matrices, attention's among them."""
    CONVOLUTION = "convolution"
    """A convolution, or both of its gradients."""
    QUANTIZE_INPUT = "quantize_input"
    """Puts a layer's input on its grid."""
    QUANTIZE_WEIGHTS = "quantize_weights"
    """Puts the weights of a step on their grids."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a step, and how often the step runs it on these sizes.

    Args:
        name: As torch names it: `aten.mm`.
        kind: What its time goes with.
        is_backward: Whether it belongs to the backward pass or the optimizer.
        launches: How often it runs.
        multiply_adds: Of all launches.
        bytes_read: Of all launches; of whole tensors, as if no cache held them.
        bytes_written: Likewise.
        quantized_elements: Values put on a grid, of all launches.
        tensors: Tensors that all launches take: lists of them cost time one by one.

    Raises:
        ValueError: If a count is negative.
    """

    name: str
    kind: OperatorKind
    is_backward: bool
    launches: int
    multiply_adds: int
    bytes_read: int
    bytes_written: int
    quantized_elements: int = 0
    tensors: int = 0

    def __post_init__(self) -> None:
        for field in fields(self)[3:]:
            if getattr(self, field.name) < 0:
                raise ValueError(
                    f"`{field.name} >= 0` must hold for the operator {self.name!r}, but got "
                    f"{getattr(self, field.name)}."
                )


@dataclass(frozen=True)
class StepOperators:
    """All operators of one training step, and the memory that it takes.

    Args:
        operators: In the order of their first launch.
        memory_bytes: What the step keeps for its backward pass, and weights, gradients, momentum.

    Example:
        >>> mm = Operator("aten.mm", OperatorKind.MATMUL, False, 1, 64, 128, 64)
        >>> step = StepOperators((mm,), 99.0)
        >>> step.multiply_adds, step.bytes_moved
        (64, 192)
    """

    operators: tuple[Operator, ...]
    memory_bytes: float

    @property
    def multiply_adds(self) -> int:
        """Of the whole step."""
        return sum(o.multiply_adds for o in self.operators)

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written, of the whole step."""
        return sum(o.bytes_read + o.bytes_written for o in self.operators)

    @property
    def quantized_elements(self) -> int:
        """Values put on a grid, of the whole step."""
        return sum(o.quantized_elements for o in self.operators)


@dataclass(frozen=True)
class ModelOperators:
    """The steps of one network on one batch size: in float, and quantization-aware.

    At which bits makes no difference to what is computed, so one list serves all of them.

    Args:
        model: What was listed, named as in a step profile.
        batch_size: Examples per step.
        in_float: A step of fp32 and ptq.
        quantizing: A step of qat.
    """

    model: str
    batch_size: int
    in_float: StepOperators
    quantizing: StepOperators

    def of(self, strategy: Strategy) -> StepOperators:
        """The step of a strategy; skip's is empty."""
        if strategy.is_skip:
            return StepOperators((), 0.0)
        return self.quantizing if strategy.method is Method.QAT else self.in_float
