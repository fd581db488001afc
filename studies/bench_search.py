"""Benchmarks of policy searches in the model: how near to the optimum, how long, what it adds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..allocator import AllocationProblem, Exact, solve
from .bench_whole import whole_problem
from .goals import Goal
from .plan_json import problem_to_json
from .timing import Bench, Role, Row

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from .search.config.settings import SearchConfig

_TRIALS = 60  # in which the optimum is to be reached
_PICK_LOSS = {"low": 0.001, "high": 0.3, "log": True}
_NEEDS = ("optuna", "plotly")

_OPTIMUM_GOAL = Goal("above the exact optimum", 1.0, "%")
_WHOLE_GOAL = Goal("time of all trials", 60.0, "s")
_OVERHEAD_GOAL = Goal("time of a trial beyond Optuna's own", 5.0, "ms")


def search_rows(bench: Bench) -> Iterator[Row]:
    """All benchmarks of policy searches."""
    scale = bench.scale
    if scale.search_clients:
        yield _near_optimum(bench, scale.search_clients)
    if scale.search_trials:
        yield _whole(bench, scale.search_trials)
        yield from _overhead(bench, scale.search_trials)


def _missing(case: str) -> Row | None:
    """The row of a case that cannot be run; None if it can."""
    lacking = [name for name in _NEEDS if find_spec(name) is None]
    if not lacking:
        return None
    note = f"not available: {lacking[0]} is not installed"
    return Row(case, "search", Role.OURS, None, None, None, None, note)


def _near_optimum(bench: Bench, num_clients: int) -> Row:
    """How far searches of several fleets are from the optimum that `Exact` proves."""
    case = f"policy search of a table, {num_clients:,} clients, {_TRIALS} trials"
    if (missing := _missing(case)) is not None:
        return missing
    seconds, excesses, alone = [], [], []
    for seed in range(bench.scale.seeds):
        bench.tell(f"{case}: seed {seed}")
        problem = whole_problem(num_clients, seed)
        with TemporaryDirectory() as folder:
            start = time.perf_counter()
            trials = _searched(_of_table(problem, seed, Path(folder)), Path(folder))
            seconds.append(time.perf_counter() - start)
        best = solve(problem, Exact()).allocation.objective
        excesses.append(100 * (_least(trials) / best - 1))
        alone.append(100 * (_least([t for t in trials if "source" not in t.user_attrs]) / best - 1))
    note = f"without the trials that are given, median {statistics.median(alone):.2g} % above"
    verdict = _OPTIMUM_GOAL.judge(*excesses)
    return Row(
        case, "tpe", Role.OURS, min(seconds), statistics.median(seconds), 1.0, None, note,
        max(seconds), (verdict,),
    )  # fmt: skip


def _of_table(problem: AllocationProblem, seed: int, folder: Path) -> SearchConfig:
    from .search.config.settings import parse_search

    path = folder / "fleet.json"
    path.write_text(problem_to_json(problem), "utf-8")
    search = {"trials": _TRIALS, "tradeoff": problem.tradeoff, "seed": seed, "workers": 1}
    space = {"allocation.pick_loss": _PICK_LOSS}
    return parse_search({"problem": {"path": str(path)}, "search": {**search, "space": space}})


def _least(trials: Sequence[optuna.trial.FrozenTrial]) -> float:
    return min((t.values[0] for t in trials if t.values), default=inf)


def _searched(config: SearchConfig, folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials of a search in a new folder, with its report as the command writes it."""
    import optuna

    from .search.report.report import report_studies
    from .search.run import open_search, run_search
    from .search.storage.places import close_storage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_search(config, folder / "out", name="search")
    try:
        run_search(config, study, folder / "out")
        report_studies(folder / "report.html", [study], ["out"], "", folders=[folder / "out"])
        return study.get_trials(deepcopy=False)
    finally:
        close_storage(study._storage)


def _demo(trials: int, workers: int) -> SearchConfig:
    from .search.config.settings import read_search_config

    changes = {"evaluate": "'model'", "trials": trials, "workers": workers}
    return read_search_config("demo", [f"search.{key}={value}" for key, value in changes.items()])


def _whole(bench: Bench, trials: int) -> Row:
    """What the command takes with `--set search.evaluate=model --trials N`, report and all."""
    case = f"fedhq study search demo in the model, {trials:,} trials"
    if (missing := _missing(case)) is not None:
        return missing
    bench.tell(case)
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        _searched(_demo(trials, workers=2), Path(folder))
        seconds = time.perf_counter() - start
    verdict = _WHOLE_GOAL.judge(seconds)
    note = "two workers"
    return Row(case, "search", Role.OURS, seconds, seconds, 1.0, None, note, verdicts=(verdict,))


@dataclass
class _Bare:
    """Optuna by itself: a study in a journal of its own, of an objective that costs nothing.

    It takes turns with a search: for each trial of the search one of its own, told the same values,
    so that both samplers have a front of the same shape to work on.
    """

    study: optuna.Study
    space: Mapping[str, BaseDistribution]
    done: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def look(self, seen: Sequence[optuna.trial.FrozenTrial]) -> None:
        """Makes as many trials as the search has finished."""
        from .search.config.space import suggest

        start = time.perf_counter()
        while self.done < len(seen) and (values := seen[self.done].values) is not None:
            trial = self.study.ask()
            suggest(trial, self.space)
            self.study.tell(trial, values)
            self.done += 1
        self.seconds += time.perf_counter() - start


def _overhead(bench: Bench, trials: int) -> Iterator[Row]:
    """A trial of a search against one of Optuna's own, in turn."""
    case = f"a trial of the demo in the model, of {trials:,}"
    if (missing := _missing(case)) is not None:
        yield missing
        return
    bench.tell(case)
    with TemporaryDirectory() as folder:
        whole, bare = _in_turn(_demo(trials, workers=1), Path(folder))
    ours, alone = (whole - bare.seconds) / trials, bare.seconds / bare.done
    verdict = _OVERHEAD_GOAL.judge(1e3 * (ours - alone))
    note = "plan, records, leases"
    ratio = ours / alone
    yield Row(case, "search", Role.OURS, ours, ours, 1.0, ratio, note, verdicts=(verdict,))
    note = "same sampler, space, kind of storage"
    yield Row(case, "Optuna alone", Role.LIMIT, alone, alone, 1 / ratio, 1.0, note)


def _in_turn(config: SearchConfig, folder: Path) -> tuple[float, _Bare]:
    """Seconds of a worker's loop, those of Optuna alone among them."""
    import optuna

    from .search.config.space import distributions
    from .search.run import make_tools, open_search
    from .search.storage.places import close_storage, open_storage
    from .search.trials.sampling import make_sampler
    from .search.workers.worker import TrialLoop

    study = open_search(config, folder / "out", name="search")
    alone = open_storage(str(folder / "bare.log"), may_create=True)
    try:
        tools = make_tools(config, folder / "out", "", 0)
        study.sampler, study.pruner = tools.sampler, tools.pruner
        space = distributions(config.space, 0)
        bare = optuna.create_study(
            storage=alone, sampler=make_sampler(config, space), directions=study.directions
        )
        turns = _Bare(bare, space)
        start = time.perf_counter()
        TrialLoop(study, tools.objective, config.search.trials, on_look=turns.look).run()
        return time.perf_counter() - start, turns
    finally:
        close_storage(study._storage)
        close_storage(alone)
