"""Labels withheld, grouped or noisy: what counts then, and what the allocation loses by it."""

import numpy as np
import pytest

from fedhq.allocator import (
    Count,
    Dual,
    Goal,
    HardwareTables,
    HybridAllocator,
    Outcome,
    grouped_counts,
    noisy_counts,
    parse_menu,
)

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
NAN = float("nan")
PAIRS = [c // 2 for c in range(10)]
MOST_QAT = 5


def allocator_of(seconds, num_examples, label_counts) -> HybridAllocator:
    """Least loss with at most five clients on QAT, and none of the slowest fifth."""
    zeros, can = np.zeros(seconds.shape), np.ones(seconds.shape, dtype=bool)
    return HybridAllocator(
        MENU,
        HardwareTables(seconds, zeros, zeros, can, MENU),
        "qat-w2a2",
        Dual(),
        num_examples=num_examples,
        label_counts=label_counts,
        goal=Goal(
            deadline_seconds=float(np.quantile(seconds[:, 2], 0.8)),
            counts=[Count(["qat-w2a2"], at_most=MOST_QAT)],
        ),
    )


class Lost:
    """What allocations of random fleets lose of true accuracy when told less than everything."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        sizes = self.rng.integers(100, 400, 20)
        shares = self.rng.dirichlet(np.full(10, 0.3), 20)
        self.counts = self.rng.multinomial(sizes, shares)
        self.seconds = np.outer(np.exp(self.rng.normal(1, 0.5, 20)), [0, 1, 1.5])
        self.exact = allocator_of(self.seconds, sizes, self.counts)
        self.sizes, self.problem = sizes, self.exact.problem()
        self.least = self.problem.total_loss(self.exact.plan(1).choice)

    def told(self, label_counts, num_examples=None) -> float:
        examples = self.sizes if num_examples is None else num_examples
        planned = allocator_of(self.seconds, examples, label_counts).plan(1)
        return self.problem.total_loss(planned.choice) - self.least

    def at_random(self) -> float:
        """Mean over sets of as many clients as may do QAT."""
        fits = self.seconds <= (self.problem.deadline_seconds or 0)
        losses = []
        for _ in range(40):
            choice = fits[:, 1].astype(np.int64)
            choice[self.rng.choice(np.flatnonzero(fits[:, 2]), MOST_QAT, replace=False)] = 2
            losses.append(self.problem.total_loss(choice))
        return float(np.mean(losses)) - self.least


def test_the_allocation_loses_little_by_what_clients_keep_to_themselves() -> None:
    """Bounds are about twice the means in `studies/privacy.md`; random choices lose 0.024."""
    fleets = [Lost(seed) for seed in range(5)]
    untold = np.full(20, NAN)
    lost: dict[str, list[float]] = {}
    for fleet in fleets:
        for epsilon in (1.0, 0.1, 0.01):
            noisy = noisy_counts(fleet.counts, epsilon, fleet.rng)
            lost.setdefault(f"epsilon {epsilon}", []).append(fleet.told(noisy, untold))
        lost.setdefault("grouped", []).append(fleet.told(grouped_counts(fleet.counts, PAIRS)))
        half = np.where(np.arange(20)[:, None] % 2, fleet.counts, NAN)
        lost.setdefault("half", []).append(fleet.told(half))
        lost.setdefault("none", []).append(fleet.told(None))
        lost.setdefault("random", []).append(fleet.at_random())
    assert max(lost["epsilon 1.0"]) < 0.005
    means = {name: np.mean(values) for name, values in lost.items()}
    assert means["epsilon 1.0"] < means["epsilon 0.1"] < 0.008 < means["epsilon 0.01"]
    for name in ("grouped", "half", "none"):
        assert means[name] < 0.012
        assert means[name] < means["random"] / 2


def test_where_all_withhold_each_counts_by_its_share_of_the_examples() -> None:
    fleet = Lost(0)
    withheld = allocator_of(fleet.seconds, fleet.sizes, np.full((20, 10), NAN)).problem()
    without = allocator_of(fleet.seconds, fleet.sizes, None).problem()
    for problem in (withheld, without):
        assert problem.coverage.label_counts.tolist() == fleet.sizes[:, None].tolist()
    rng = np.random.default_rng(1)
    taught = rng.integers(1, 3, 20)
    share = fleet.sizes[taught == 2].sum() / fleet.sizes.sum()
    assert without.coverage.covered(taught) == pytest.approx([share])


def test_who_withholds_covers_every_class_alike_and_the_distribution_stays_as_told() -> None:
    fleet = Lost(2)
    told = fleet.counts.astype(float)
    told[12:] = NAN
    coverage = allocator_of(fleet.seconds, fleet.sizes, told).problem().coverage
    shares = fleet.counts[:12].sum(axis=0) / fleet.counts[:12].sum()
    assert coverage.class_weights == pytest.approx(shares)
    only = np.where(np.arange(20) == 15, 2, 1)
    share = fleet.sizes[15] / fleet.sizes.sum()
    assert coverage.covered(only) == pytest.approx(np.full(10, share))
    assert coverage.covered(np.full(20, 2)) == pytest.approx(np.ones(10))


def test_who_tells_no_number_of_examples_counts_by_its_labels_or_as_the_mean() -> None:
    seconds = np.tile([0.0, 1.0, 2.0], (4, 1))
    counts = [[4, 2], [NAN, NAN], [1, 1], [NAN, NAN]]
    allocator = allocator_of(seconds, [NAN, NAN, 5, 10], counts)
    assert allocator.num_examples.tolist() == [6, 7, 5, 10]
    assert allocator.label_counts[1] == pytest.approx([7 * 5 / 8, 7 * 3 / 8])
    alike = allocator_of(seconds, [NAN] * 4, None)
    assert alike.num_examples.tolist() == [1, 1, 1, 1]
    assert alike.plan(1).choice.any()


def test_negative_noisy_counts_count_as_none_and_a_row_of_them_as_no_data() -> None:
    seconds = np.tile([0.0, 1.0, 2.0], (3, 1))
    allocator = allocator_of(seconds, [NAN, 8, NAN], [[5, -3], [-2, 2], [-1, -2]])
    assert allocator.label_counts.tolist() == [[5, 0], [0, 2], [0, 0]]
    assert allocator.num_examples.tolist() == [5, 8, 0]
    nothing = allocator_of(seconds, [NAN] * 3, [[-1, -3], [-2, 0], [-1, -2]])
    assert nothing.plan(1).choice.any()
    mixed = allocator_of(seconds, [3, 3, 3], [[-1, -3], [NAN, NAN], [-1, -2]])
    assert mixed.label_counts[1].tolist() == [1.5, 1.5]  # nothing is known: even


def test_who_tells_labels_where_nobody_did_makes_them_count() -> None:
    allocator = HybridAllocator.open(MENU, "qat-w2a2", carry=0.5)
    allocator.join(HardwareTables.unknown(MENU, 2), num_examples=[30, 10])
    assert allocator.label_counts.shape == (2, 1)
    allocator.observe([Outcome(1, MENU[2], 1.0, True)])
    assert allocator.problem().coverage.carried.tolist() == [0.5 * 10 / 40]
    allocator.join(HardwareTables.unknown(MENU), num_examples=[20], label_counts=[[15, 5]])
    assert allocator.label_counts.tolist() == [[22.5, 7.5], [7.5, 2.5], [15, 5]]
    assert allocator.problem().coverage.carried == pytest.approx([0.5 * 10 / 60] * 2)
    assert allocator.plan(1).choice.any()


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0])
def test_the_noise_is_that_of_the_mechanism(epsilon) -> None:
    """Neighbouring answers differ in chance by exactly exp(epsilon); mean 0, known variance."""
    noise = noisy_counts(np.full(200_000, 50), epsilon, np.random.default_rng(0)) - 50
    ratio = np.exp(-epsilon)
    assert noise.dtype == np.int64
    assert noise.mean() == pytest.approx(0, abs=5 * noise.std() / np.sqrt(len(noise)))
    assert noise.var() == pytest.approx(2 * ratio / (1 - ratio) ** 2, rel=0.05)
    found = [np.mean(noise == k) for k in range(-2, 3)]
    wanted = [(1 - ratio) / (1 + ratio) * ratio ** abs(k) for k in range(-2, 3)]
    assert found == pytest.approx(wanted, rel=0.1)


def test_groups_keep_the_sum_and_their_order() -> None:
    counts = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert grouped_counts(counts, ["b", "a", "b", "c"]).tolist() == [[4, 2, 4], [12, 6, 8]]
    assert grouped_counts(counts[0], range(4)).tolist() == counts[0].tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rng: grouped_counts([[1, 2]], ["a"]), r"`groups` must name .* names 1"),
        (lambda rng: grouped_counts([], []), r"`groups` must name"),
        (lambda rng: grouped_counts([1, -2], ["a", "b"]), r"counts\[1\] = -2"),
        (lambda rng: noisy_counts([1], 0.0, rng), r"`1e-06 <= epsilon`"),
        (lambda rng: noisy_counts([1], np.inf, rng), r"`1e-06 <= epsilon`"),
        (lambda rng: noisy_counts([1], NAN, rng), r"`1e-06 <= epsilon`"),
        (lambda rng: noisy_counts([1.5], 1.0, rng), r"whole numbers, but 1.5 is not"),
        (lambda rng: noisy_counts([NAN], 1.0, rng), r"`counts` must be finite"),
    ],
)
def test_what_is_no_count_or_no_privacy_is_refused(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call(np.random.default_rng(0))
