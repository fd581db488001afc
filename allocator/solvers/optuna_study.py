"""Optuna, in memory and without its log, for the solvers that search with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..errors import SolverError

if TYPE_CHECKING:
    import optuna

SamplerName = Literal["tpe", "nsga2", "random"]


def load_optuna(solver: object) -> Any:  # whose types would be imported with it
    """The package Optuna.

    Args:
        solver: Who needs it, for the error.

    Raises:
        SolverError: If it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise SolverError(
            f"{type(solver).__name__} needs Optuna 5, which is not installed: pip install optuna"
        ) from None
    return optuna


def study_in_memory(solver: object, sampler: SamplerName, seed: int) -> optuna.Study:
    """A study that minimises one objective, and is forgotten with the object.

    Args:
        solver: Who needs it, for the error.
        sampler: Who proposes.
        seed: Of the sampler.

    Raises:
        SolverError: If Optuna is not installed.
        ValueError: If there is no such sampler.
    """
    library = load_optuna(solver)
    samplers = {
        "tpe": library.samplers.TPESampler,
        "nsga2": library.samplers.NSGAIISampler,
        "random": library.samplers.RandomSampler,
    }
    if sampler not in samplers:
        raise ValueError(f"`sampler` must be one of {list(samplers)}, but got {sampler!r}.")
    said = library.logging.get_verbosity()
    library.logging.set_verbosity(library.logging.WARNING)  # that a study begins is no news
    try:
        study: optuna.Study = library.create_study(sampler=samplers[sampler](seed=seed))
    finally:
        library.logging.set_verbosity(said)
    return study
