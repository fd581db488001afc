"""The study's record: Markdown with what it says, how models do, and what each setting allows."""

from __future__ import annotations

from collections.abc import Sequence

from ..benchmark import machine_line
from .analysis import Analysis, Judged
from .findings import findings
from .left_out import Fold
from .models import COVERAGE, SHARE
from .noise import Noise
from .ranks import short

DESIGN = """Federations are trained with allocations that stay fixed over the rounds: of every
setting and seed all-PTQ, all-QAT, 7 random sets of clients on QAT with the rest on PTQ, 7 biased
sets (QAT goes to those that hold least of some classes, drawn at random), 4 random absences among
QAT, and uploads of 2 and 8 bits; all-PTQ, all-QAT and three of the sets a second time on the same
data, with other weights, batches and rounding, to see what chance does. Draws are the same for all
bits and networks of a data set, alpha and seed. The design is fractional: all alphas (.1, .3, 1)
and bits (2, 3, 4) on digits with an MLP, elsewhere those listed below. Loss is deployed accuracy,
mean of the last three rounds, against all-QAT of the same setting and seed."""
READING = """Models are fitted to all settings but one (or all tasks, all data sets but one) and
predict that one; every task counts alike in a fit. Rank correlation (Spearman) is taken within a
setting and seed over the 14 mixed allocations and averaged over the settings with a trade-off.
Brackets: 95 of 100 resamples of seeds, and of allocations within them, the same in all settings.
R2 is taken within a setting and seed, too: it is 0 for one who knows every cell's mean loss and
nothing of allocations. So the accuracy of all-QAT, which stands in all losses of a cell and in its
gap, cannot explain itself. *Gap known*: the loss of all-PTQ in that setting and seed is given; its
noise is drawn anew in every resample (fits are not). Pairs: of two allocations whose shares
differ by less than .08, how often the model tells which loses less (.50 is chance). A model is
*unbeaten* if none that the program takes is better in rank correlation or in R2 (gap known) by
more than chance: it is compared with each of them, and the simplest that is unbeaten is kept. What
ships is a curve of coverage all the same: who tells no labels has one class, of which coverage is
the share. A setting has a trade-off if the true spread of its allocations exceeds the noise of a
repeat.
Three seeds are few: intervals are narrower than they should be. Models were named before
anything was trained but for the two with unevenness, which were added when the first three
cells (digits with an MLP, W2A2, one seed) had shown mixed allocations that lose more than all-
PTQ; they took the places of exp(-coverage / 0.1), which the fitted exponential holds, and of
share with skew, whose sign is tested by itself."""

MODEL_HEADINGS = (
    "model",
    "clients tell",
    "in the program",
    "setting left out",
    "task",
    "data set",
    "biased only",
    "pairs",
    "R2, gap known",
    "R2, unknown",
    "unbeaten",
)
SETTING_HEADINGS = (
    "setting",
    "seeds",
    "gap",
    "server sees",
    "noise",
    "spread",
    "worse than PTQ",
    "ceiling",
    "coverage",
    "share",
)


def record(analysis: Analysis) -> str:
    """The whole record as Markdown."""
    says = "\n".join(f"- {text}" for text in findings(analysis))
    models = _table(MODEL_HEADINGS, [model_cells(judged) for judged in analysis.judged])
    settings = _table(SETTING_HEADINGS, [setting_cells(analysis, n) for n in analysis.noise])
    parts = [
        "# Which data must do QAT? (`fedhq study validity`)",
        machine_line(),
        DESIGN,
        size(analysis),
        "## What it says",
        says,
        "## Models",
        READING,
        models,
        "## Settings",
        "Gap: what all-PTQ loses, mean and standard deviation over seeds; *server sees*: float "
        "accuracy less deployed of all-PTQ's weights, on the server's own examples; noise: "
        "standard deviation of a repeat; spread: between mixed allocations of a seed, noise "
        "included; *worse than PTQ*: part of the mixed allocations that lose more than all-PTQ "
        "by more than two standard deviations; ceiling: rank correlation of one who knows the true "
        "accuracies; then that of coverage with a fitted curve and of the share, setting left out. "
        "*None*: no trade-off.",
        settings,
    ]
    return "\n\n".join(parts) + "\n"


def size(analysis: Analysis) -> str:
    """How much was trained, and what is missing."""
    runs = sum(len(cell.evidence) for cell in analysis.cells)
    text = (
        f"{runs} federations in {len(analysis.cells)} cells of a setting and a seed, "
        f"{analysis.core_hours:.1f} core-hours."
    )
    if not analysis.missing:
        return f"{text} All is trained."
    seen = {noise.setting for noise in analysis.noise}
    unseen = dict.fromkeys(str(m.setting) for m in analysis.missing if m.setting not in seen)
    text += f" {len(analysis.missing)} cells are not trained and left out"
    text += f"; of these settings nothing is known: {'; '.join(unseen)}." if unseen else "."
    few = [n for n in analysis.noise if n.seeds == 1]
    if not few:
        return text
    judged = "; ".join(str(n.setting) for n in few if n.has_tradeoff)
    text += (
        f" {len(few)} of {len(analysis.noise)} settings have one seed and "
        f"{few[0].mixed} mixed allocations, too few to judge one alone"
    )
    return text + (
        f"; models are judged by some of them all the same: {judged}." if judged else "."
    )


def model_cells(judged: Judged) -> list[str]:
    """A model's row."""
    return [
        judged.model.name,
        judged.model.tells,
        "yes" if judged.model.in_program else "no",
        *(str(judged.ranks[fold]) for fold in Fold),
        str(judged.biased),
        "-" if judged.pairs is None else str(judged.pairs.right),
        str(judged.explained),
        str(judged.blind),
        "yes" if judged.is_unbeaten else "no",
    ]


def setting_cells(analysis: Analysis, noise: Noise) -> list[str]:
    """A setting's row."""
    ranks = [
        str(analysis.ranks.of_setting(model, Fold.SETTING, noise.setting))
        for model in (COVERAGE, SHARE)
    ]
    return [
        str(noise.setting) + ("" if noise.has_tradeoff else " (*none*)"),
        str(noise.seeds),
        f"{short(noise.gap, 3)} ± {short(noise.gap_spread, 3)}",
        short(noise.server_gap, 3),
        short(noise.noise, 3),
        short(noise.spread, 3),
        f"{noise.harmed:.0%}",
        short(noise.ceiling),
        *ranks,
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
