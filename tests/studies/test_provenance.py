"""`provenance`: what a record is noted with."""

import platform
import subprocess
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from fedhq.studies import provenance
from fedhq.studies.provenance import Provenance

ROOT = Path(__file__).parents[2]


def test_it_names_the_versions_that_are_installed_and_leaves_the_others_out() -> None:
    here = Provenance.here(["optuna", "no_such_package"])
    assert here.versions["optuna"] == metadata.version("optuna")
    assert "no_such_package" not in here.versions
    assert here.fedhq == metadata.version("fedhq")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout")
def test_it_names_the_commit_that_git_says() -> None:
    told = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert told.startswith(Provenance.here().commit.rstrip("+"))
    assert len(Provenance.here().commit.rstrip("+")) == 12


@pytest.mark.parametrize(
    ("cpuinfo", "processor"),
    [
        (
            "processor\t: 0\nmodel name\t: Abacus 3000 @ 1 Hz\n\nmodel name\t: other\n",
            "Abacus 3000 @ 1 Hz",
        ),
        ("processor\t: 0\n", platform.processor()),
        (None, platform.processor()),
    ],
)
def test_it_names_the_processor(cpuinfo, processor, tmp_path, monkeypatch) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo, "utf-8")
    monkeypatch.setattr(provenance, "_CPUINFO", path)
    provenance._processor.cache_clear()
    try:
        here = Provenance.here()
    finally:
        provenance._processor.cache_clear()
    assert here.processor == processor
    assert here.machine.startswith(processor or here.system)


def test_the_machine_and_the_numeric_libraries_decide_what_times_compare() -> None:
    here = Provenance.here(["optuna"])
    alike = replace(
        here, commit="1", fedhq="0", started="", versions={**here.versions, "optuna": "0"}
    )
    assert alike.speed_key == here.speed_key
    for other in (
        replace(here, processor="abacus"),
        replace(here, cores=here.cores + 1),
        replace(here, python="3.99"),
        replace(here, versions={**here.versions, "numpy": "0"}),
    ):
        assert other.speed_key != here.speed_key


def test_without_git_there_is_no_commit_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance._git(ROOT, "rev-parse", "HEAD") == ""
