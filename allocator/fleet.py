"""`FleetTables`: what an allocator knows of every client of its fleet; clients may join it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from .arrays import BoolArray, FloatArray, freeze_told
from .check_fleet import check_label_counts
from .goal import Goal
from .hardware import HardwareTables
from .problem import AllocationProblem
from .withheld import filled_counts, filled_examples


@dataclass(frozen=True, eq=False)
class FleetTables:
    """What is known of every client: what it costs, what data it tells of, what it cannot do.

    Args:
        hardware: Cost tables of the whole fleet.
        told_examples: `(clients,)` examples; NaN where a client does not tell.
        told_counts: `(clients, classes)` label counts; a row of NaN where withheld, None where
            everybody does.
        forbidden: `(clients, strategies)` what clients said later that they cannot do.
        groups: `(clients,)` a name each, or None; None where nobody has one.
    """

    hardware: HardwareTables
    told_examples: FloatArray
    told_counts: FloatArray | None
    forbidden: BoolArray
    groups: tuple[Hashable | None, ...] | None
    num_examples: FloatArray = field(init=False)
    label_counts: FloatArray = field(init=False)
    population: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        examples = filled_examples(self.told_examples, self.told_counts)
        counts = filled_counts(self.told_counts, examples)
        derived = {"num_examples": examples, "label_counts": counts}
        for name, array in {**derived, "population": counts.sum(axis=0)}.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def of(
        cls,
        hardware: HardwareTables,
        num_examples: ArrayLike,
        label_counts: ArrayLike | None = None,
        groups: Sequence[Hashable | None] | None = None,
    ) -> FleetTables:
        """Checks what is told of some clients; the arguments are those of `HybridAllocator`.

        Raises:
            ValueError: If a shape or value is impossible.
        """
        num_clients = len(hardware.seconds)
        if groups is not None and len(groups) != num_clients:
            raise ValueError(
                f"`groups` must hold {num_clients} names (or None), one a client, but has "
                f"{len(groups)}."
            )
        return cls(
            hardware,
            freeze_told("num_examples", num_examples, (num_clients,)),
            check_label_counts(label_counts, num_clients),
            np.zeros(hardware.seconds.shape, dtype=bool),
            None if groups is None else tuple(groups),
        )

    def __len__(self) -> int:
        return len(self.told_examples)

    @property
    def allowed(self) -> BoolArray:
        """`(clients, strategies)` what may be planned."""
        return self.hardware.allowed & ~self.forbidden

    def covered(self, levels: FloatArray) -> FloatArray:
        """`(classes,)` share of each class that is taught, where clients teach at `(clients,)`.

        Counts may be shares, or noisy ones below one in all: only a class without any is none.
        """
        whole = np.where(self.population > 0, self.population, 1.0)
        return np.asarray(levels @ self.label_counts / whole)

    def joined(self, more: FleetTables) -> FleetTables:
        """These clients and then the others.

        Raises:
            ValueError: If the menus differ, or the classes of those who tell their labels.
        """
        groups = None
        if self.groups is not None or more.groups is not None:
            groups = (
                *(self.groups or (None,) * len(self)),
                *(more.groups or (None,) * len(more)),
            )
        return FleetTables(
            self.hardware.joined(more.hardware),
            np.concatenate([self.told_examples, more.told_examples]),
            _joined_counts(self, more),
            np.concatenate([self.forbidden, more.forbidden]),
            groups,
        )

    def with_empty_untold(self) -> FleetTables:
        """The same, where 0 examples mean that a client does not tell."""
        return replace(
            self, told_examples=np.where(self.told_examples > 0, self.told_examples, np.nan)
        )

    def retold(self, client: int, examples: float, counts: FloatArray | None) -> FleetTables:
        """The same fleet, where a client tells anew of its data.

        Args:
            client: Its number.
            examples: How many it holds now; NaN where it does not tell.
            counts: `(classes,)` its label counts now; None where it withholds them.

        Raises:
            ValueError: If the fleet's counts have other classes, or nobody tells any.
        """
        told_examples = self.told_examples.copy()
        told_examples[client] = freeze_told("num_examples", [examples], (1,))[0]
        told_counts = self.told_counts
        if counts is not None:
            row = check_label_counts(np.asarray(counts)[None], 1)
            width = 0 if told_counts is None else told_counts.shape[1]
            if row is None or told_counts is None or row.shape[1] != width:
                raise ValueError(
                    f"`label_counts` must hold {width} classes like those that the fleet told "
                    f"before, but has shape {np.shape(counts)}. Group them alike, or withhold them."
                )
            told_counts = told_counts.copy()
            told_counts[client] = row[0]
        elif told_counts is not None:
            told_counts = told_counts.copy()
            told_counts[client] = np.nan
        return replace(self, told_examples=told_examples, told_counts=told_counts)

    def without(self, client: int, column: int) -> FleetTables:
        """The same fleet, with one more choice forbidden.

        Raises:
            ValueError: If nothing would be left for the client or its group.
        """
        forbidden = self.forbidden.copy()
        forbidden[client, column] = True
        fleet = replace(self, forbidden=forbidden)
        group = None if self.groups is None else self.groups[client]
        alike = [client]
        if group is not None:
            alike = [i for i, name in enumerate(self.groups or ()) if name == group]
        if not fleet.allowed[alike].all(axis=0).any():
            raise ValueError(
                "a client must be allowed at least one strategy, but without "
                f"{str(self.hardware.strategies[column])!r} nothing is left to client {client}"
                f"{'' if group is None else f' and its group {group!r}'}. "
                "Put 'skip' on the menu, or leave the client out of the cohorts."
            )
        return fleet

    def with_forbidden(self, choices: Sequence[Sequence[int]]) -> FleetTables:
        """The same fleet, with exactly these (client, column) forbidden.

        Raises:
            ValueError: If they are not of this fleet and menu.
        """
        forbidden = np.zeros_like(self.forbidden)
        pairs = np.array(choices, dtype=np.int64).reshape(-1, 2)
        if not ((pairs >= 0) & (pairs < forbidden.shape)).all():
            raise ValueError(
                f"`forbidden` of a state must be of {forbidden.shape[0]} clients and "
                f"{forbidden.shape[1]} strategies, but is {pairs.tolist()[:5]}."
            )
        forbidden[tuple(pairs.T)] = True
        return replace(self, forbidden=forbidden)

    def check(self, goal: Goal) -> None:
        """Raises a `ValueError` if no round of these clients could be planned.

        Raised early, not in some round: groups, counts, budgets or masks that cannot be.
        """
        menu, num_clients = self.hardware.strategies, len(self)
        zeros = np.zeros((max(num_clients, 1), len(menu)))
        if not num_clients:  # who joins brings the rest
            AllocationProblem(menu, zeros, zeros, counts=goal.counts)
            return
        AllocationProblem(
            menu,
            zeros,
            zeros,
            allowed=self.allowed,
            groups=self.groups,
            counts=goal.counts,
            budgets=goal.budgets(self.hardware, np.arange(num_clients)),
        )


def _joined_counts(first: FleetTables, more: FleetTables) -> FloatArray | None:
    """`(clients, classes)` counts as told of both; None where nobody tells."""
    told = [f.told_counts for f in (first, more) if f.told_counts is not None]
    if not told:
        return None
    widths = [counts.shape[1] for counts in told]
    if widths[-1] != widths[0]:
        raise ValueError(
            "`label_counts` of clients that join must have as many classes as those that are "
            f"there, but {widths[1]} is not {widths[0]}. "
            "Group them alike (`grouped_counts`), or withhold them."
        )
    withheld = [np.full((len(f), widths[0]), np.nan) for f in (first, more)]
    return np.concatenate(
        [
            nothing if f.told_counts is None else f.told_counts
            for f, nothing in zip((first, more), withheld, strict=True)
        ]
    )
