"""`provenance`: what a record is noted with."""

import subprocess
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


def test_without_git_there_is_no_commit_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance._git(ROOT, "rev-parse", "HEAD") == ""
