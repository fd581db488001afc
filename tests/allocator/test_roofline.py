"""Rates are found again from the times that they make, and outliers do not spoil them."""

import numpy as np
import pytest

from fedhq.allocator import Strategy
from fedhq.allocator.operators import ModelOperators, Operator, OperatorKind, StepOperators
from fedhq.allocator.roofline import (
    DeviceRates,
    OperationEnergy,
    adjust_rates,
    calibrate,
    predict,
    predict_seconds,
    work_of,
)

TRUE = DeviceRates(
    **dict(
        zip(DeviceRates.names(), 10.0 ** -np.linspace(3, 9, len(DeviceRates.names())), strict=True)
    ),
    origin="drawn",
)
MENU = ["skip", "fp32", "ptq-w2a2", "qat-w2a2", "qat-w8a8-u8"]


def random_step(rng: np.random.Generator, kinds: list[OperatorKind]) -> StepOperators:
    """One operator of each kind, of random size."""
    made = [
        Operator(
            f"aten.{kind}", kind, False,
            *(int(n) for n in rng.integers(1, (20, 10**6, 10**6, 10**6, 10**5, 20))),
        )
        for kind in kinds
    ]  # fmt: skip
    return StepOperators(tuple(made), float(rng.integers(1, 10**6)))


@pytest.fixture
def steps() -> list[StepOperators]:
    rng = np.random.default_rng(0)
    every = list(OperatorKind)
    return [random_step(rng, list(rng.permutation(every)[:5])) for _ in range(60)]


def test_the_rates_that_made_the_times_are_found_again(steps) -> None:
    seconds = [predict_seconds(step, TRUE) for step in steps]
    found = calibrate(steps, seconds, "here")
    predicted = [predict_seconds(step, found) for step in steps]
    assert predicted == pytest.approx(seconds, rel=1e-6)
    assert found.origin == "here"


def test_a_few_steps_measured_on_a_busy_machine_hardly_move_the_others(steps) -> None:
    seconds = np.array([predict_seconds(step, TRUE) for step in steps])
    disturbed = seconds * np.where(np.arange(len(steps)) % 12 == 0, 3.0, 1.0)
    found = calibrate(steps, disturbed, "here")
    errors = np.abs([predict_seconds(s, found) for s in steps] / seconds - 1)
    assert np.median(errors) < 0.02


def test_a_slower_device_is_known_from_one_step(steps) -> None:
    slow = adjust_rates(TRUE, steps[0], 3 * predict_seconds(steps[0], TRUE))
    for step in steps:
        assert predict_seconds(step, slow) == pytest.approx(3 * predict_seconds(step, TRUE))
    with pytest.raises(ValueError, match=r"finite and > 0.*got 0"):
        adjust_rates(TRUE, steps[0], 0.0)
    with pytest.raises(ValueError, match=r"predict 0\.0"):
        adjust_rates(TRUE, StepOperators((), 0.0), 1.0)


def test_every_count_of_an_operator_makes_a_step_longer_or_leaves_it(steps) -> None:
    for step in steps[:10]:
        for k, operator in enumerate(step.operators):
            counts = dict.fromkeys(("launches", "multiply_adds", "bytes_read"), 10**7)
            more = Operator(
                operator.name, operator.kind, False, **counts,
                bytes_written=operator.bytes_written,
                quantized_elements=10**7, tensors=10**7,
            )  # fmt: skip
            longer = StepOperators((*step.operators[:k], more, *step.operators[k + 1 :]), 0.0)
            assert (work_of(longer) >= work_of(step)).all()
            assert predict_seconds(longer, TRUE) > predict_seconds(step, TRUE)


def test_a_profile_has_every_strategy_whatever_its_bits(steps) -> None:
    profile = predict(ModelOperators("mine", 8, steps[0], steps[1]), MENU, TRUE)
    in_float, quantizing = (predict_seconds(step, TRUE) for step in steps[:2])
    assert profile.step_seconds.tolist() == [0, in_float, in_float, quantizing, quantizing]
    memory = [0, *[steps[0].memory_bytes] * 2, *[steps[1].memory_bytes] * 2]
    assert profile.memory_bytes.tolist() == memory
    assert profile.select([Strategy.parse("qat-w2a2-u8")]).step_seconds[0] == quantizing
    assert "drawn" in profile.origin


def test_rates_survive_their_file_and_others_are_refused(tmp_path) -> None:
    TRUE.save(tmp_path / "rates.json")
    assert DeviceRates.load(tmp_path / "rates.json") == TRUE
    for text in ("{}", "[]", '{"format": "fedhq device rates", "version": 9}', "\xff"):
        (tmp_path / "bad.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"must hold fedhq device rates.*--rates"):
            DeviceRates.load(tmp_path / "bad.json")


def test_impossible_rates_counts_and_times_are_refused(steps) -> None:
    with pytest.raises(ValueError, match="`0 <= seconds_per_step < inf`"):
        TRUE.scaled(-1.0, "")
    with pytest.raises(ValueError, match="`launches >= 0`"):
        Operator("aten.mm", OperatorKind.MATMUL, False, -1, 0, 0, 0)
    with pytest.raises(ValueError, match="`seconds > 0`"):
        calibrate([], [], "")
    with pytest.raises(ValueError, match="`seconds > 0`"):
        calibrate(steps[:1], [0.0], "")


def test_energy_is_that_of_its_operations() -> None:
    step = StepOperators((Operator("aten.mm", OperatorKind.MATMUL, False, 2, 100, 30, 10),), 0.0)
    assert OperationEnergy(2.0, 3.0).joules(step) == 2.0 * 100 + 3.0 * 40
