"""Weights' quantized shadows: what layers work with while the float weights are trained."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from .observers import Fit, clip_ratios
from .ops.library import operators
from .ops.sizes import mask_bytes
from .rows import as_rows

_State = tuple[int, int, int, bool, bool]

_steps = 0
"""Steps of any optimizer: fused ones change weights without torch counting it."""


def _count_step(optimizer: object, arguments: object, keywords: object) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


class Shadow:
    """A weight on its grid, made anew after every change of the weight, and only then.

    It is a leaf outside of the weight's graph. What gradient it collects goes to the weight where
    the weight's code lies on the grid, so a pass builds no graph for the quantization. The graph
    does not hold the weight: `torch.func`, `torch.compile` and `torch.autograd.grad` do not see it.

    Args:
        weight: The float weight.
        bits: 2 to 8.
        scale_shape: Shape of the weight's scales.
        group: The shadows that are made in one go.
    """

    _leaf: Tensor | None
    _mask: Tensor | None
    _values: Tensor | None
    _made_of: _State | None

    def __init__(
        self, weight: Tensor, bits: int, scale_shape: tuple[int, ...], group: Shadows
    ) -> None:
        self.weight = weight
        self.bits = bits
        self._scale_shape = scale_shape
        self._group = group
        self._leaf: Tensor | None = None
        self._mask: Tensor | None = None
        self._values: Tensor | None = None
        self._made_of: _State | None = None
        group.members.append(self)

    def __getstate__(self) -> dict[str, object]:
        """A copy makes a leaf of its own, for the copied weight."""
        kept = "weight", "bits", "_scale_shape", "_group"
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._forget()

    def leaf(self, weight: Tensor) -> Tensor:
        """The weight on its grid as it is now, of its shape."""
        if weight is not self.weight:  # the parameter was replaced
            self.weight = weight
            self._forget()
        if self.is_stale():
            self._group.remake()
        assert self._leaf is not None
        return self._leaf

    def is_stale(self) -> bool:
        """Whether the weight has changed since."""
        weight = self.weight
        return self._state(weight) != self._made_of

    def begin(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows to quantize, and the rows and the mask to write."""
        weight = self.weight
        # Kept: as long as its memory is taken, no other values can come to lie there.
        self._values = weight.detach()
        rows = as_rows(self._values, self._scale_shape)
        if self._leaf is None or not self._suits(self._leaf, weight):
            self._leaf = torch.empty_like(weight, memory_format=torch.contiguous_format)
            self._leaf = self._leaf.detach().requires_grad_(weight.requires_grad)
            self._mask = rows.new_empty(mask_bytes(rows.numel()), dtype=torch.uint8)
            if weight.requires_grad:
                self._leaf.register_post_accumulate_grad_hook(self._hand_over)  # type: ignore[no-untyped-call]
        self._made_of = self._state(weight)
        assert self._mask is not None
        return rows, self._leaf.detach().view(rows.shape), self._mask

    @staticmethod
    def _state(weight: Tensor) -> _State:
        """What differs whenever the shadow must be made anew."""
        inference = torch.is_inference_mode_enabled()
        return weight.data_ptr(), weight._version, _steps, weight.requires_grad, inference

    @staticmethod
    def _suits(leaf: Tensor, weight: Tensor) -> bool:
        same = leaf.dtype == weight.dtype and leaf.device == weight.device
        # One made in inference mode cannot be trained with.
        usable = leaf.is_inference() == torch.is_inference_mode_enabled()
        return same and usable and leaf.requires_grad == weight.requires_grad

    def _forget(self) -> None:
        self._leaf = self._mask = self._values = self._made_of = None

    def _hand_over(self, leaf: Tensor) -> None:
        """Moves the gradient from the leaf to the weight."""
        grad, weight = leaf.grad, self.weight
        leaf.grad = None
        # A step may follow that the version does not show: of fused optimizers, or by `.data`.
        self._made_of = None
        assert grad is not None
        grad = operators(grad).mask_gradient(grad.contiguous(), self._mask)
        weight.grad = grad if weight.grad is None else weight.grad + grad


@dataclass(eq=False)
class Shadows:
    """The shadows of a model's weights with one fit; a step changes all, so all are made in one go.

    Args:
        fit: How ranges are fitted.
    """

    fit: Fit
    members: list[Shadow] = field(default_factory=list)

    def remake(self) -> None:
        """Makes those anew whose weights have changed."""
        stale = [shadow for shadow in self.members if shadow.is_stale()]
        rows, leaves, masks = zip(*(shadow.begin() for shadow in stale), strict=True)
        ratios = clip_ratios(self.fit, rows[0].device)
        bits = [shadow.bits for shadow in stale]
        # In place: the backward pass of an older forward pass is then an error, as it must be.
        operators(rows[0]).quantize_weights(rows, leaves, masks, bits, ratios)
