"""All that the study says, worked out from the cells that are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...allocator.arrays import BoolArray
from .drawing import Kind
from .equals import Pairs, equal_share
from .evidence import Cell, Lacking
from .explained import r_squared, sign_of_skew, unexplained
from .left_out import Fold, Predictions, predict_left_out
from .models import ABSENCE, CANDIDATES, COVERAGE, SHARE, LossModel
from .noise import Noise, noise_of
from .ranks import Interval, Ranks

_LEAST_SETTINGS = 2


@dataclass(frozen=True, eq=False)
class Judged:
    """How well a model does, over the settings that have a trade-off.

    Args:
        model: Which.
        ranks: By fold, on mixed allocations.
        biased: On those alone in which QAT goes to who holds least of some classes; settings left
            out.
        pairs: Of about the same share, settings left out.
        blind: R2 with the gap unknown, settings left out.
        explained: R2 with the gap known, settings left out.
        beaten_by: The models of the program that rank or explain (gap known) better by more than
            chance, settings left out.
    """

    model: LossModel
    ranks: dict[Fold, Interval]
    biased: Interval
    pairs: Pairs | None
    blind: Interval
    explained: Interval
    beaten_by: tuple[LossModel, ...]

    @property
    def is_unbeaten(self) -> bool:
        """Whether no model of the program ranks or explains better by more than chance."""
        return not self.beaten_by


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found.

    Args:
        cells: What it rests on.
        missing: What is not whole yet.
        predictions: Of all models.
        ranks: On mixed allocations.
        noise: `(settings,)`.
        among: `(settings,)` which have a trade-off.
        judged: `(models,)` from the simplest on.
        against_share: By how much coverage's rank correlation is higher than the share's, in the
            settings with a trade-off, on mixed and on biased allocations.
        explains_more: By how much coverage's R2 is higher there, with the gap known.
        by_class: By how much R2 is higher on random absences, the gap known, where what is absent
            is priced by class.
        skew: Of `sign_of_skew`.
    """

    cells: tuple[Cell, ...]
    missing: tuple[Lacking, ...]
    predictions: Predictions
    ranks: Ranks
    noise: tuple[Noise, ...]
    among: BoolArray
    judged: tuple[Judged, ...]
    against_share: tuple[Interval, Interval]
    explains_more: Interval
    by_class: Interval
    skew: Interval

    @property
    def best(self) -> Judged:
        """The highest mean rank correlation, settings left out."""
        return max(self.judged, key=lambda j: j.ranks[Fold.SETTING].mean)

    @property
    def kept(self) -> Judged | None:
        """The simplest that the program takes and that no other that it takes beats.

        It is compared with each of them, not with the best alone, which by the luck of many draws
        differs from all by wide intervals. Unbeaten is not as good: few settings tell little apart.
        """
        return next((j for j in self.judged if j.model.in_program and j.is_unbeaten), None)

    def judged_of(self, model: LossModel) -> Judged:
        """How well a model does."""
        return next(j for j in self.judged if j.model is model)

    @property
    def core_hours(self) -> float:
        """That training took."""
        return sum(cell.core_seconds for cell in self.cells) / 3600


def analyse(cells: Sequence[Cell], missing: Sequence[Lacking]) -> Analysis:
    """Judges all models on what is trained.

    Raises:
        ValueError: If fewer than two settings have a trade-off to judge by.
    """
    settings = tuple(dict.fromkeys(cell.setting for cell in cells))
    noise = tuple(noise_of(setting, cells) for setting in settings)
    among = np.array([n.has_tradeoff for n in noise], dtype=bool)
    if among.sum() < _LEAST_SETTINGS:
        raise ValueError(
            f"`{_LEAST_SETTINGS} settings with a trade-off` must be trained to judge models by, "
            f"but {among.sum()} of {len(settings)} whole settings has one. Train more."
        )
    predictions = predict_left_out(cells)
    ranks = Ranks.of(predictions)
    biased = Ranks.of(predictions, (Kind.BIASED,), (Fold.SETTING,))
    left = {
        (model.name, known): unexplained(predictions, model, known, noise)
        for model in CANDIDATES
        for known in (False, True)
    }
    judged = tuple(
        Judged(
            model=model,
            ranks={fold: ranks.mean(model, fold, among) for fold in Fold},
            biased=biased.mean(model, Fold.SETTING, among),
            pairs=equal_share(predictions, model, Fold.SETTING, among),
            blind=r_squared(left[model.name, False]),
            explained=r_squared(left[model.name, True]),
            beaten_by=tuple(
                other
                for other in CANDIDATES
                if other.in_program
                and (
                    ranks.difference(other, model, Fold.SETTING, among).low > 0
                    or r_squared(left[model.name, True], left[other.name, True]).low > 0
                )
            ),
        )
        for model in CANDIDATES
    )
    against = tuple(r.difference(COVERAGE, SHARE, Fold.SETTING, among) for r in (ranks, biased))
    return Analysis(
        cells=tuple(cells),
        missing=tuple(missing),
        predictions=predictions,
        ranks=ranks,
        noise=noise,
        among=among,
        judged=judged,
        against_share=(against[0], against[1]),
        explains_more=r_squared(left[SHARE.name, True], left[COVERAGE.name, True]),
        by_class=r_squared(
            *(unexplained(predictions, m, True, noise, (Kind.ABSENT,)) for m in (COVERAGE, ABSENCE))
        ),
        skew=sign_of_skew(cells, among),
    )
