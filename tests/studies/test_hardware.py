"""The study of predicted step times: what is left out is left out, and the page says what came."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedhq.allocator.roofline import DeviceRates, predict_seconds
from fedhq.fl_core.predicting import reference_rates
from fedhq.studies.hardware.__main__ import main
from fedhq.studies.hardware.cases import MENU, Case, all_cases
from fedhq.studies.hardware.errors import (
    Setting,
    list_all,
    predictions,
    quantile,
    without_each_network,
)
from fedhq.studies.hardware.measuring import Measured, measure, measure_into, read
from fedhq.studies.hardware.page import Evidence, page
from fedhq.studies.hardware.shipped import measure_shipped, shipped_names

CASES = all_cases((8, 32), quick=True)


@pytest.fixture(scope="module")
def listing():
    return list_all(CASES)


def measured_with(rates: DeviceRates, listing, slower: str = "", factor: float = 1.0):
    """Times that follow the rates exactly, but for one network."""
    found = []
    for case in CASES:
        times = factor if case.network == slower else 1.0
        taken = (predict_seconds(listing[case].of(s), rates) * times for s in MENU)
        peaks = listing[case].in_float.memory_bytes, listing[case].quantizing.memory_bytes
        found.append(Measured(case, tuple(taken), peaks))
    return found


def test_a_machine_that_follows_the_model_is_predicted_without_an_error(listing) -> None:
    measured = measured_with(reference_rates(), listing)
    rates = without_each_network(measured, listing)
    assert sorted(rates) == sorted({c.network for c in CASES if not c.is_probe})
    for setting in Setting:
        found = predictions(setting, measured, listing, rates)
        assert not any(p.case.is_probe for p in found)
        assert quantile(found, 0.5) < 0.02


def test_a_network_that_takes_twice_as_long_is_seen_only_where_a_step_of_it_was_timed(listing):
    measured = measured_with(reference_rates(), listing, slower="mlp", factor=2.0)
    rates = without_each_network(measured, listing)
    found = {s: predictions(s, measured, listing, rates) for s in Setting}
    own = {s: [p for p in each if p.case.network == "mlp"] for s, each in found.items()}
    assert quantile(own[Setting.NOTHING], 0.5) == pytest.approx(0.5, abs=0.1)
    for setting in (Setting.SAME_BATCH, Setting.ONE_BATCH):
        assert quantile(own[setting], 1.0) < 0.15


def test_what_was_timed_is_not_counted_as_predicted(listing) -> None:
    measured = measured_with(reference_rates(), listing)
    rates = without_each_network(measured, listing)
    networks = {c.label for c in CASES if not c.is_probe}
    every = {(label, size) for label in networks for size in (8, 32)}
    in_qat = {(*case, True) for case in every}
    expected = {
        Setting.SAME_BATCH: in_qat,
        Setting.ONE_BATCH: in_qat | {(label, 8, False) for label in networks},
        Setting.NOTHING: in_qat | {(*case, False) for case in every},
    }
    for setting, wanted in expected.items():
        found = predictions(setting, measured, listing, rates)
        assert {(p.case.label, p.case.batch_size, p.is_qat) for p in found} == wanted
        assert len(found) == len(wanted)


def test_qat_is_predicted_once_against_the_median_of_its_bits(listing) -> None:
    measured = [
        replace(m, seconds=(m.seconds[0], *(k * m.seconds[1] for k in (1.0, 1.1, 1.3, 9.0))))
        for m in measured_with(reference_rates(), listing)
    ]
    rates = without_each_network(measured_with(reference_rates(), listing), listing)
    found = predictions(Setting.NOTHING, measured, listing, rates)
    errors = [p.error for p in found if p.is_qat]
    assert len(errors) == len([c for c in CASES if not c.is_probe])
    np.testing.assert_allclose(errors, 1 / 1.2 - 1, atol=0.02)
    worst = [p.worst_error for p in found if p.is_qat]  # the median does not hide the fourth
    np.testing.assert_allclose(worst, 1 - 1 / 9, atol=0.02)


def test_the_page_tells_of_every_network_and_of_missed_goals(listing) -> None:
    good = measured_with(reference_rates(), listing)
    spoilt = [
        Measured(m.case, (m.seconds[0], *(3 * t for t in m.seconds[1:])), m.peak_bytes)
        if m.case.network == "mlp"
        else m
        for m in good
    ]
    text = page(Evidence("this machine", good, {"old": spoilt}, listing))
    outcome = dict(re.findall(r"^\| (a|b|old)\b[^|]*\|.*\| ([^|]+) \|$", text, re.MULTILINE))
    assert outcome == {"a": "reached", "b": "reached", "old": "**worst missed**"}
    assert all(case.label in text for case in CASES if not case.is_probe)
    assert "median 1.00, from 1.00 to 1.00" in text  # of memory


def test_measurements_are_kept_taken_up_and_the_least_counts(tmp_path: Path) -> None:
    case, path = Case("mlp", (1, 8, 8), 4, 2), tmp_path / "m.jsonl"
    said: list[str] = []
    (first,) = measure_into(path, [case], 1, 1, said.append)
    assert all(t > 0 for t in first.seconds)
    assert measure_into(path, [case], 1, 1, said.append) == [first]
    (both,) = measure_into(path, [case], 2, 1, said.append)
    assert len(said) == len(path.read_text("utf-8").splitlines()) == 2
    assert all(np.less_equal(both.seconds, first.seconds))
    assert read(path) == [both]


def test_the_memory_that_is_counted_is_about_what_torch_allocates() -> None:
    case = Case("cnn", (1, 16, 16), 4, 16)
    peaks, listed = measure(case, 1).peak_bytes, case.operators()
    for step, peak in zip((listed.in_float, listed.quantizing), peaks, strict=True):
        assert 0.7 < step.memory_bytes / peak < 1.3


def test_every_profile_that_ships_is_measured_anew_by_one_command(tmp_path, monkeypatch) -> None:
    asked = []

    class Profile:
        def save(self, path: Path) -> None:
            path.touch()

    def note(*arguments: object) -> Profile:
        asked.append(arguments)
        return Profile()

    monkeypatch.setattr("fedhq.studies.hardware.shipped.measure_profile", note)
    measure_shipped(tmp_path, 7, lambda name: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == shipped_names()
    assert ("digits", "cnn", 32, 7) in [(*a[:2], *a[3:]) for a in asked]
    assert ("spoken_digits", "cnn1d", 32, 7) in [(*a[:2], *a[3:]) for a in asked]


@pytest.mark.slow
def test_the_command_writes_a_page_and_rates(tmp_path: Path) -> None:
    out, rates = tmp_path / "page.md", tmp_path / "rates.json"
    arguments = ["--out", str(out), "--rates", str(rates), "--cache", str(tmp_path / "kept")]
    main([*arguments, "--quick", "--samples", "1", "--passes", "1"])
    assert "no compiled kernels" in out.read_text("utf-8")
    assert DeviceRates.load(rates).seconds_per_step >= 0
