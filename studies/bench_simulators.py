"""Speed of a federated round against other simulators: `python -m fedhq.studies.bench_simulators`.

All programs of `studies/simulators` train the same: MNIST-5k over 20 clients of a Dirichlet split,
a small CNN, two local epochs of SGD in batches of 32, all clients in every round, one thread a
process. They run as whole processes, one after the other and in turn. Other simulators are
installed into environments of their own, with torch as it is here; that takes some 5 GB of disk
and several minutes once. One that cannot be installed, or fails, gets a row that says so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from ..allocator.errors import FedHQError
from ..fl_core.federation import Federation
from ..fl_core.seeds import Purpose
from .benchmark import machine_line
from .environments import make_environment
from .simulator_runs import LEAST_ROUNDS, Repetition, read_run, table
from .simulators import in_fedhq
from .simulators.programs import PROGRAMS, Program
from .simulators.task import FILE_VARIABLE, Task
from .watched import run_watched
from .writing import write_at_once

_INSTALL_SECONDS = 1800.0
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
Runs = dict[str, list[Repetition]]

_HOW_TO_READ = """Seconds of a round are the median and the least over all repetitions, without the
first and the last round of each; the ratios are over the first row. Start-up is from the start of
the process to the end of its first round, less importing torch and a median round: some start their
workers before that round, some in it. Memory is the peak of all processes together, pages that they
share counted once, sampled some times a second. Lines are those that a user writes, without blank
lines, comments and docstrings; data, network and local steps, which all but fedhq take from one
file, are not counted. Accuracy is that of the last model: where it agrees, the programs have
trained the same."""


@dataclass(frozen=True)
class Plan:
    """What is run.

    Args:
        programs: The first is what the others are compared with.
        rounds: Of every run.
        repetitions: Runs of every program.
        cache: Folder of environments, task and logs.
        timeout_seconds: Of one run.
    """

    programs: tuple[Program, ...]
    rounds: int
    repetitions: int
    cache: Path
    timeout_seconds: float

    @property
    def task_file(self) -> Path:
        """What the programs train."""
        return self.cache / "task.npz"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all programs, prints their table and writes it, with records of every run beside it.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    options = _options(arguments)
    programs = tuple(program for program in PROGRAMS if program.name in options.only)
    plan = Plan(programs, options.rounds, options.repetitions, options.cache, options.timeout)
    out = options.out or options.cache / "simulators.md"
    print(run(plan, out), end="")


def run(plan: Plan, out: Path) -> str:
    """Runs all programs in turn, and writes table and records after every turn.

    Args:
        plan: What is run.
        out: The table's file; the records have the suffix `.json`.

    Returns:
        The table with its head.
    """
    console = Console(stderr=True)
    console.print(f"table: {out}, records: {out.with_suffix('.json')}")
    head = f"# Simulators\n\n{machine_line()}\n\n{_HOW_TO_READ}\n"
    write_task(plan.rounds, plan.task_file)
    runs: Runs = {program.name: [] for program in plan.programs}
    commands = _commands(plan, runs, console)
    text = head
    for number in range(1, plan.repetitions + 1):
        for program in plan.programs:
            name, found = program.name, runs[program.name]
            if any(repetition.failure for repetition in found):
                continue
            console.print(f"repetition {number} of {plan.repetitions}: {program.title}")
            log = plan.cache / "logs" / str(number) / f"{name}.log"
            found.append(run_program(program, commands[name], plan, log))
        text = f"{head}\n{table(plan.programs, runs)}"
        write_at_once(out.with_suffix(".json"), _records(plan, runs))
        write_at_once(out, text)
    return text


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [program.name for program in PROGRAMS]
    parser = argparse.ArgumentParser(
        prog="python -m fedhq.studies.bench_simulators",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--only bare fedhq --rounds 5 --repetitions 1 takes half a minute, all some ten.",
    )
    add = parser.add_argument
    add("--rounds", type=int, default=10, metavar="N", help="of a run (10)")
    add("--repetitions", type=int, default=5, metavar="N", help="runs of each program (5)")
    add(
        "--only",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"run only these, of: {', '.join(names)}",
    )
    add(
        "--cache",
        type=Path,
        default=Path("runs/simulators"),
        metavar="FOLDER",
        help="where environments, the task and logs go (runs/simulators)",
    )
    add("--timeout", type=float, default=300.0, metavar="S", help="seconds a run may take (300)")
    add("--out", type=Path, metavar="FILE.md", help="the table; records go beside it, as .json")
    options = parser.parse_args(arguments)
    for name, least in (("rounds", LEAST_ROUNDS), ("repetitions", 1), ("timeout", 1)):
        if getattr(options, name) < least:
            parser.error(f"`{name} >= {least}` must hold, but got {getattr(options, name)}.")
    return options


def write_task(rounds: int, path: Path) -> None:
    """Writes what the programs train: what fedhq's own program makes of its settings.

    Args:
        rounds: How many are trained.
        path: The file; its folder is made if it is missing.
    """
    settings = in_fedhq.settings(rounds)
    federation, training = Federation.build(settings), settings.training
    cosine = [0.5 * (1 + math.cos(math.pi * number / rounds)) for number in range(rounds)]
    test = federation.test
    path.parent.mkdir(parents=True, exist_ok=True)
    Task(
        clients=[(data.inputs, data.labels) for data in federation.clients],
        test=(test.inputs, test.labels),
        weights={name: p.detach() for name, p in federation.model.named_parameters()},
        rates=[training.learning_rate * part for part in cosine],
        epochs=training.local_epochs,
        batch_size=training.batch_size,
        seed=[settings.seed, int(Purpose.BATCHES)],
    ).save(path)


def _commands(plan: Plan, runs: Runs, console: Console) -> dict[str, list[str]]:
    """How each program is started; one whose environment cannot be made has failed."""
    commands = {}
    for program in plan.programs:
        interpreter = None
        if program.environment is not None:
            console.print(f"environment of {program.title}")
            folder = plan.cache / "environments"
            try:
                interpreter = make_environment(program.environment, folder, _INSTALL_SECONDS)
            except FedHQError as error:
                runs[program.name].append(Repetition(str(error)))
                continue
        commands[program.name] = program.command(interpreter)
    return commands


def run_program(program: Program, command: Sequence[str], plan: Plan, log: Path) -> Repetition:
    """Runs a program once, with one thread a process.

    Args:
        program: Which.
        command: How it is started.
        plan: Of its task, rounds and time limit.
        log: Where its error stream goes.
    """
    variables = {**os.environ, **_ONE_THREAD, **program.variables}
    if program.environment is not None:
        variables.pop("PYTHONPATH", None)  # what lies there is of other versions
    variables[FILE_VARIABLE] = str(plan.task_file.resolve())
    return read_run(run_watched(command, variables, log, plan.timeout_seconds), plan.rounds)


def _records(plan: Plan, runs: Runs) -> str:
    records = {
        "machine": machine_line(),
        "rounds": plan.rounds,
        "runs": {name: [asdict(run) for run in found] for name, found in runs.items()},
    }
    return json.dumps(records, indent=1) + "\n"


if __name__ == "__main__":
    main()
