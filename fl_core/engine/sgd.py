"""Plain SGD over lists of tensors: `torch.optim.SGD`'s arithmetic without its first step's price.

The first step of any `torch.optim` optimizer loads torch's compiler, .85 s in every process
(measured with torch 2.13).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Sgd:
    """Momentum SGD with a proximal term that pulls towards the weights at the start.

    The step is `torch.optim.SGD`'s, bit for bit; with `proximal` the gradient is that of
    `loss + proximal / 2 * |weights - start|^2` (FedProx: Li et al. 2020, arXiv 1812.06127).

    Args:
        parameters: What is trained; their gradients are taken and dropped at every step.
        learning_rate: Step size.
        momentum: In [0, 1).
        proximal: Strength of the pull; 0 for none.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> (3 * weight).sum().backward()
        >>> Sgd([weight], 0.5).step()
        >>> weight.item()
        -0.5
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        learning_rate: float,
        momentum: float = 0.0,
        proximal: float = 0.0,
    ) -> None:
        self._parameters = list(parameters)
        self._learning_rate = learning_rate
        self._momentum = momentum
        self._proximal = proximal
        self._start = [p.detach().clone() for p in parameters] if proximal else []
        self._velocity: dict[int, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Moves all that have a gradient, in place."""
        moved = [k for k, p in enumerate(self._parameters) if p.grad is not None]
        parameters: list[Tensor] = [self._parameters[k] for k in moved]
        grads: list[Tensor] = [p.grad for p in parameters if p.grad is not None]
        if self._proximal:
            pull = torch._foreach_sub(parameters, [self._start[k] for k in moved])
            torch._foreach_add_(grads, pull, alpha=self._proximal)
        if self._momentum:
            grads = self._accelerate(moved, grads)
        torch._foreach_add_(parameters, grads, alpha=-self._learning_rate)
        for parameter in parameters:
            parameter.grad = None

    def _accelerate(self, moved: list[int], grads: list[Tensor]) -> list[Tensor]:
        """The velocities after this step; a first one is the gradient itself."""
        for k, grad in zip(moved, grads, strict=True):
            if k in self._velocity:
                self._velocity[k].mul_(self._momentum).add_(grad)
            else:
                self._velocity[k] = grad
        return [self._velocity[k] for k in moved]
