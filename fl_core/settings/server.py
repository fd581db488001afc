"""What the server does with the updates of a round."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, BelowOne, Finite, Positive, Whole


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class ServerSettings:
    """How updates are let in, weighed, combined and applied.

    Args:
        optimizer: What the combined update does to the weights: `fedavg` adds it (McMahan et al.,
            arXiv 1602.05629); `fedadam` and `fedyogi` take it for a gradient (Reddi et al., arXiv
            2003.00295, algorithm 2).
        learning_rate: Of the optimizer; `fedavg` at 1 is plain averaging. `fedadam` and `fedyogi`
            move every weight by about this much in a round: start at 0.01.
        beta1: Decay of the mean of the updates (fedadam, fedyogi).
        beta2: Decay of the mean of their squares (fedadam, fedyogi).
        tau: Added to the root of that mean; small adapts more. The mean starts at its square.
        weighting: Of the mean: by `examples`; `uniform`; or `error_aware`, by examples less what
            an update's own rounding adds to the noise of the average (`server.weighting`; Chen et
            al. 2021, "Dynamic Aggregation for Heterogeneous Quantization in FL").
        aggregation: `mean`; or of every weight apart and without weighting `median` or
            `trimmed_mean`, which bear a minority of hostile clients (Yin et al., arXiv 1803.01498).
        trim: Share of the updates that `trimmed_mean` cuts at each end, rounded down: of 4 updates
            .2 cuts none.
        norm_bound: Longer updates are shortened to this Euclidean norm (as in McMahan et al., arXiv
            1710.06963); None shortens none.
        outlier_factor: An update whose norm is more than this times the median of the norms at hand
            is refused; None refuses none.
        max_staleness: Rounds that may have passed since the model that an update started from was
            sent; 0 in synchronous training (buffered asynchronous: Nguyen et al., arXiv
            2106.06639).
        staleness_power: An update s rounds old weighs (1 + s) ** -staleness_power in the mean (Xie
            et al., arXiv 1903.03934).

    Raises:
        ValueError: If a value breaks its rule, or `error_aware` is asked of what has no weighting.

    Example:
        >>> ServerSettings(aggregation="trimmed_mean").trim
        0.2
    """

    optimizer: Literal["fedavg", "fedadam", "fedyogi"] = "fedavg"
    learning_rate: Positive = 1.0
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.99
    tau: Positive = 1e-3
    weighting: Literal["examples", "uniform", "error_aware"] = "examples"
    aggregation: Literal["mean", "median", "trimmed_mean"] = "mean"
    trim: Annotated[Finite, Field(ge=0, lt=0.5)] = 0.2
    norm_bound: Positive | None = None
    outlier_factor: Annotated[Finite, Field(gt=1)] | None = None
    max_staleness: Annotated[Whole, Field(ge=0)] = 0
    staleness_power: Annotated[Finite, Field(ge=0)] = 0.5

    def __post_init__(self) -> None:
        if self.weighting == "error_aware" and self.aggregation != "mean":
            raise ValueError(
                '`weighting = "error_aware"` must come with `aggregation = "mean"`, but got '
                f'"{self.aggregation}", which has no weighting. Leave one of them out.'
            )
