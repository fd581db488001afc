"""Runs of Flower by real processes: simulated, deployed with every fault, deployed securely."""

import difflib
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from fedhq.fl_core import ClientRecord, Trainer, read_clients, read_rounds
from fedhq.fl_core.flower.server.roster import PLAIN_CLIENTS
from fedhq.studies.flower.folder import prepare, renew
from fedhq.studies.flower.layout import Layout

sys.path.insert(0, str(Path(__file__).parent))
from deployment import Deployment, free_port, wait_until

ROOT = Path(__file__).parents[3]
EXAMPLE, PLAIN = ROOT / "examples" / "flower", ROOT / "examples" / "flower_plain"
APPS = Path(__file__).parent / "apps"
DEADLINE_SECONDS = 90.0
"""Of a round with faults: only who waits for its end misses it, however busy the machine is."""
PATIENCE_SECONDS = 300
OLD = PLAIN_CLIENTS
"""Any client that tells no profile."""
HELPER = ("with allocated(", "train_(")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the records of a run."""
    (tmp_path / "records").mkdir()
    return tmp_path / "records"


def rounds_done(folder: Path) -> int:
    return len(read_rounds(folder)) if (folder / "rounds.jsonl").exists() else 0


def num_asked(folder: Path, name: str) -> int:
    """How often a faulty client was asked to train."""
    count = folder / f"messages-{name}"
    return count.stat().st_size if count.exists() else 0


def told(lines: Sequence[ClientRecord], client: int, status: str, *words: str) -> list[int]:
    """The rounds in which that became of a client, for a reason with those words."""
    return [
        line.round
        for line in lines
        if min(line.client, OLD) == client and line.status == status
        if all(word in (line.reason or "") for word in words)
    ]


def changed_lines(old: Path, new: Path) -> list[str]:
    """Lines of a file that another version adds or changes; blank ones count for nothing."""
    texts = (path.read_text("utf-8").splitlines() for path in (old, new))
    return [
        line[1:].strip()
        for line in difflib.unified_diff(*texts, n=0)
        if line.startswith("+") and not line.startswith("+++") and line[1:].strip()
    ]


def test_fedhq_takes_five_lines_of_an_app_and_the_helpers_call() -> None:
    files = sorted(p.relative_to(PLAIN) for p in PLAIN.rglob("*") if p.suffix in (".py", ".toml"))
    assert files == sorted(
        p.relative_to(EXAMPLE) for p in EXAMPLE.rglob("*") if p.suffix in (".py", ".toml")
    )
    changed = [(f, line) for f in files for line in changed_lines(PLAIN / f, EXAMPLE / f)]
    shipping = [line for file, line in changed if file.name == "task.py" or "ship" in line]
    assert len(shipping) == 10  # the deployed model is evaluated, too
    lines = [line for _, line in changed if line not in shipping]
    helper = [line for line in lines if line.startswith(HELPER)]
    assert len(helper) == 2  # the call, and what it goes around
    assert len(lines) - len(helper) <= 5, lines


@pytest.mark.slow
@pytest.mark.long
def test_the_example_runs_simulated_as_it_stands(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployed:
        deployed.start_superlink("--simulation")
        config = {"num-server-rounds": 3, "model-file": str(tmp_path / "model.pt")}
        resources = "num-supernodes=4 client-resources-num-cpus=1 init-args-num-cpus=2"
        run = deployed.start_run(EXAMPLE, config, "--federation-config", resources)
        assert run.wait(PATIENCE_SECONDS) == 0, deployed.logs()
        said = deployed.log("run")
        assert (tmp_path / "model.pt").exists(), said
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(bool(torch.isfinite(values).all()) for values in state.values())
    ((in_float, deployed),) = re.findall(
        r"^accuracy (\d\.\d+), deployed (\d\.\d+)", said, re.MULTILINE
    )
    assert float(in_float) > 0.7
    assert float(deployed) > 0.5


@pytest.mark.slow
@pytest.mark.long
def test_a_deployment_survives_every_fault_and_records_it(tmp_path: Path, folder: Path) -> None:
    with Deployment(tmp_path) as deployed:
        deployed.start_superlink()
        deployed.start_node("alpha", {"name": "alpha", "raises": 2, "malformed": 3, "slow": 4})
        deployed.start_node("old", {"name": "old", "old": 1, "nans": 2, "hangs": 4})
        config = {"folder": str(folder), "deadline": DEADLINE_SECONDS}
        run = deployed.start_run(APPS / "faulty", config)
        wait_until(
            lambda: num_asked(folder, "old") == 4 or run.poll() is not None, PATIENCE_SECONDS
        )
        deployed.kill("old")  # while it trains
        deployed.start_node("delta", {"name": "delta"})
        assert run.wait(PATIENCE_SECONDS) == 0, deployed.logs()
        assert rounds_done(folder) == 8, deployed.logs()
    lines = read_clients(folder)
    alpha, delta = 0, 1  # by when they came
    assert len(told(lines, alpha, "failed", "RuntimeError", "the sensor is broken")) == 1
    assert len(told(lines, alpha, "refused", "malformed", "65")) == 1
    assert len(told(lines, alpha, "late", "no reply when the round closed")) == 1
    assert len(told(lines, alpha, "refused", "late: it answers round")) == 1
    assert len(told(lines, OLD, "refused", "'weights' is finite", "NaN")) == 1
    killed = told(lines, OLD, "dropped", "Node Unavailable") or told(lines, OLD, "late")
    assert len(told(lines, OLD, "ok")) == 2  # what it was asked before, but for the NaN
    assert max(told(lines, OLD, "ok")) < killed[0]
    assert told(lines, alpha, "ok")
    assert told(lines, delta, "ok")
    assert min(r.round for r in lines if r.client == delta) > killed[0]
    for client in (alpha, delta):  # the app cannot do QAT: it says so, and is asked no more
        asked = [r for r in lines if r.client == client and r.strategy == "qat-w4a4"]
        assert [(r.status, r.share) for r in asked] == [("failed", 0.0)]
        assert "the app trained in float" in (asked[0].reason or "")
    assert all(r.share == 0 for r in lines if r.status != "ok")
    for number in range(1, 9):
        shares = [r.share for r in lines if r.round == number and r.status == "ok"]
        assert not shares or sum(shares) == pytest.approx(1)
    weights = np.load(folder / "weights.npz")["weights"]
    assert np.isfinite(weights).all()
    truth = np.arange(len(weights))
    assert np.abs(weights - truth).max() < np.abs(truth).max() / 2  # it has learned


@pytest.mark.slow
@pytest.mark.long
def test_a_secure_deployment_repeats_the_trainers_bytes(tmp_path: Path, folder: Path) -> None:
    hq, registered, also = tmp_path / "hq", ("a", "b", "c"), "127.0.0.1"
    with Deployment(tmp_path, hq / "operator" / "ca.pem") as deployed:
        layout = Layout(("localhost",), (*registered, "stranger"), deployed.port)
        prepare(hq, layout, datetime.now(UTC), 30, 30)
        deployed.start("superlink", [hq / "superlink" / "start.sh"])
        deployed.wait_for_port("superlink")
        register = deployed.start("register", [hq / "operator" / "register.sh", *registered])
        assert register.wait(PATIENCE_SECONDS) == 0, deployed.log("register")
        for node in registered:
            start_secure(deployed, hq, node)
        stranger = start_secure(deployed, hq, "stranger", "--superlink", f"{also}:{deployed.port}")
        run = deployed.start_run(APPS / "equal", {"folder": str(folder)})
        assert run.wait(PATIENCE_SECONDS) == 0, deployed.logs()
        assert (folder / "weights.npz").exists(), deployed.logs()
        assert stranger.wait(PATIENCE_SECONDS) != 0
        # By its key: the certificate names the address that it took, too.
        assert "Failed to activate SuperNode" in deployed.log("stranger")

    task = runpy.run_path(str(APPS / "equal" / "equal_app" / "task.py"))
    federation = task["build"]()
    trainer = Trainer(federation, federation.allocator(task["DECIDES"]), tmp_path / "in_process")
    expected = trainer.run()
    with np.load(folder / "weights.npz") as weights:
        assert {n: w.tobytes() for n, w in weights.items()} == {
            n: w.tobytes() for n, w in expected.items()
        }
    facts = [
        [
            (r.round, r.client, r.strategy, r.status, r.uplink_bytes, r.share)
            for r in read_clients(p)
        ]
        for p in (folder, tmp_path / "in_process")
    ]
    assert facts[0] == facts[1]
    assert {line[2] for line in facts[0]} == set(task["MENU"])


def start_secure(
    deployed: Deployment, hq: Path, node: str, *options: str
) -> subprocess.Popen[bytes]:
    """Starts a SuperNode by its own script, on a free port."""
    script = hq / "nodes" / node / "start.sh"
    return deployed.start(node, [script, "--port", str(free_port()), *options])


@pytest.mark.slow
def test_an_expired_certificate_is_refused_with_the_reason(tmp_path: Path) -> None:
    now, hq = datetime.now(UTC), tmp_path / "hq"
    with Deployment(tmp_path, hq / "operator" / "ca.pem") as deployed:
        prepare(hq, Layout(("localhost",), ("a",), deployed.port), now, 30, 30)
        renew(hq, now - timedelta(days=20), 10)
        deployed.start("superlink", [hq / "superlink" / "start.sh"])
        node = start_secure(deployed, hq, "a")  # it waits for the other
        assert node.wait(PATIENCE_SECONDS) != 0
        assert "certificate has expired" in deployed.log("a")
