"""What the study says, in sentences that are made from its figures."""

from __future__ import annotations

import numpy as np
from scipy import stats

from .analysis import Analysis
from .left_out import Fold
from .models import CLUSTERS, COVERAGE, INTERACTIONS, SHARE
from .noise import Noise
from .ranks import Interval, short
from .refit import curve_words, not_kept, refit

_GOAL = 0.8
_BY_CHANCE = 0.023


def findings(analysis: Analysis) -> list[str]:
    """One finding a sentence or two."""
    told = (
        _tradeoffs,
        _harmed,
        _kept,
        _against_share,
        _goal,
        _clusters,
        _interactions,
        _skew,
        _absence,
        _gaps,
        _refitted,
    )
    return [say(analysis) for say in told]


def compared(difference: Interval, what: str) -> str:
    """A difference in words.

    Example:
        >>> compared(Interval(0.1, 0.02, 0.2), "rank correlation")
        'has the higher rank correlation (.10 [.02, .20])'
        >>> compared(Interval(0.1, -0.02, 0.2), "R2")
        'is not told apart by R2 (.10 [-.02, .20])'
    """
    if not difference.sign:
        return f"is not told apart by {what} ({difference})"
    return f"has the {'higher' if difference.sign > 0 else 'lower'} {what} ({difference})"


def _tradeoffs(analysis: Analysis) -> str:
    none = [str(n.setting) for n in analysis.noise if not n.has_tradeoff]
    text = (
        f"{analysis.among.sum()} of {len(analysis.noise)} settings have a trade-off to exploit: "
        "their allocations differ by more than repeats do."
    )
    return text + (f" There is none in {'; '.join(none)}." if none else "")


def _harmed(analysis: Analysis) -> str:
    mean = float(np.mean([n.harmed for n in analysis.noise]))
    often = [n for n in analysis.noise if _is_harmed(n, len(analysis.noise))]
    lose = "lose more than all-PTQ by more than two standard deviations of noise (by chance 2%)"
    if not often:
        return (
            f"Nowhere does more QAT hurt beyond chance: {mean:.0%} of the mixed allocations {lose}."
        )
    where = ", ".join(f"{n.setting} ({n.harmed:.0%})" for n in often)
    return (
        f"More QAT can hurt: in {where} more of the mixed allocations than by chance {lose}; "
        f"{mean:.0%} over all settings. No curve of coverage can say that: it never rises."
    )


def _is_harmed(noise: Noise, settings: int) -> bool:
    """Whether so many have been harmed that chance has it in about 5 % of studies.

    About: allocations are taken as independent, though those of a seed share all-PTQ's noise.
    """
    by_chance = stats.binom.sf(round(noise.harmed * noise.mixed) - 1, noise.mixed, _BY_CHANCE)
    return bool(by_chance < 0.05 / settings)


def _kept(analysis: Analysis) -> str:
    best = analysis.best
    most = max(analysis.judged, key=lambda judged: judged.explained.mean)
    text = (
        f"Best ranked by *{best.model.name}* ({best.ranks[Fold.SETTING]}, settings left out); most "
        f"is explained by *{most.model.name}* (R2 {most.explained}, gap known). "
    )
    kept = analysis.kept
    if kept is None:
        return text + "Every model that the program takes is beaten by another that it takes."
    return text + (
        f"Of those that the program takes *{kept.model.name}* is the simplest that no other "
        f"of them beats in either by more than chance (rank correlation "
        f"{kept.ranks[Fold.SETTING]}, R2 "
        f"{kept.explained}): it is kept."
    )


def _against_share(analysis: Analysis) -> str:
    mixed, biased = analysis.against_share
    share, coverage = analysis.judged_of(SHARE), analysis.judged_of(COVERAGE)
    text = (
        "Coverage of labels, its curve fitted elsewhere, against the share of examples: it "
        f"{compared(mixed, 'rank correlation')}, on biased allocations alone it "
        f"{compared(biased, 'rank correlation')}, and with the gap known it "
        f"{compared(analysis.explains_more, 'R2')}."
    )
    if share.pairs is None or coverage.pairs is None:
        return text
    return text + (
        f" Of two allocations of about the same share it tells the better in "
        f"{coverage.pairs.right} of {coverage.pairs.count} pairs, the share in "
        f"{share.pairs.right}; chance is .50."
    )


def _goal(analysis: Analysis) -> str:
    chosen = analysis.kept or analysis.best
    means = analysis.ranks.once[chosen.model.name, Fold.SETTING][analysis.among]
    ceilings = [n.ceiling for n in analysis.noise if n.has_tradeoff]
    reached = chosen.ranks[Fold.SETTING].mean
    return (
        f"The goal, a rank correlation of {short(_GOAL, 1)} on settings left out, is "
        f"{'reached' if reached >= _GOAL else 'missed'} on average ({short(reached)}), and reached "
        f"in {(means >= _GOAL).sum()} of {len(means)} settings with a trade-off. One who knew the "
        f"true accuracies would have {short(float(np.mean(ceilings)))} (least "
        f"{short(min(ceilings))}), measured against one noisy run each."
    )


def _clusters(analysis: Analysis) -> str:
    clusters, coverage = analysis.judged_of(CLUSTERS), analysis.judged_of(COVERAGE)
    return (
        "Without labels, by counts of clusters of inputs: rank correlation "
        f"{clusters.ranks[Fold.SETTING]} and R2 {clusters.explained}, with labels "
        f"{coverage.ranks[Fold.SETTING]} and {coverage.explained}, by share alone "
        f"{analysis.judged_of(SHARE).ranks[Fold.SETTING]} and "
        f"{analysis.judged_of(SHARE).explained}."
    )


def _interactions(analysis: Analysis) -> str:
    told = [f"*{model.name}* R2 {analysis.judged_of(model).explained}" for model in INTERACTIONS]
    return (
        f"What else share might do: {', '.join(told)}; coverage alone "
        f"{analysis.judged_of(COVERAGE).explained}."
    )


def _skew(analysis: Analysis) -> str:
    words = {
        1: "QAT is worth more with skewed clients than with typical ones",
        -1: "QAT is worth more with typical clients than with skewed ones",
        0: "whether QAT is worth more with skewed or with typical clients cannot be told",
    }
    return (
        f"The sign of skew: at an equal share {words[analysis.skew.sign]} (partial rank "
        f"correlation of the loss with the skew of those without QAT: {analysis.skew})."
    )


def _absence(analysis: Analysis) -> str:
    return (
        "Absent data priced by what is left of each class, in place of their share: on random "
        f"absences the model {compared(analysis.by_class, 'R2')}."
    )


def _gaps(analysis: Analysis) -> str:
    coverage = analysis.judged_of(COVERAGE)
    gaps = [n.gap for n in analysis.noise]
    seen = [n.server_gap for n in analysis.noise]
    rank = float(stats.spearmanr(gaps, seen).statistic) if len(gaps) > 2 else np.nan
    return (
        "What is not known beforehand is the size of the gap between all-PTQ and all-QAT: without "
        f"it coverage explains R2 {coverage.blind}, with it {coverage.explained}. What the server "
        "sees on its own examples, float accuracy less deployed of all-PTQ's weights, ranks the "
        f"settings' gaps by {short(rank)}."
    )


def _refitted(analysis: Analysis) -> str:
    fitted = refit(analysis)
    price = fitted.unevenness_price
    return (
        f"Fitted to all settings{not_kept(analysis)}: phi {curve_words(fitted.loss_curve)}; "
        f"{f'unevenness costs {price:g} a unit, ' if price else ''}absent data cost "
        f"{fitted.skip_price:g} a share, wire noise {fitted.wire_price:g} a unit; rule_loss "
        f"{fitted.rule_loss:g}."
    )
