"""The examples run as they stand, the README's excerpts are theirs, and public names exist."""

import ast
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits

import fedhq.fl_core
from fedhq.fl_core import Federation, read_clients, read_rounds
from fedhq.fl_core.wire.codec import encoded_bytes
from fedhq.studies.arms import make_allocator
from fedhq.studies.config import parse_run
from fedhq.studies.search.config.settings import parse_search
from fedhq.studies.search.trials.policy import Policies
from fedhq.studies.search.trials.seeds import seed_trials

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = [
    tomllib.loads(block)
    for block in re.findall(r"^```toml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
]


def run_example(name: str, folder: Path) -> str:
    """What an example prints, as a process of its own in a folder."""
    command = [sys.executable, str(ROOT / "examples" / name)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracy_in(text: str) -> float:
    (value,) = re.findall(r"accuracy (\d\.\d+)", text)
    return float(value)


def lines_of_code(path: Path) -> int:
    """Lines that are neither blank nor comment nor the module's docstring."""
    text = path.read_text(encoding="utf-8")
    docstring = ast.parse(text).body[0].end_lineno or 0
    lines = [line.strip() for line in text.splitlines()[docstring:]]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def test_a_model_and_data_of_ones_own_take_thirty_lines() -> None:
    assert lines_of_code(ROOT / "examples" / "own_model.py") <= 30


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_imports_what_exists_and_starts_nothing_by_that(path: Path) -> None:
    before = set(Path().iterdir())
    runpy.run_path(str(path), run_name="imported")
    assert set(Path().iterdir()) == before


@pytest.mark.slow
def test_own_model_trains_says_who_did_what_and_writes_the_model(tmp_path: Path) -> None:
    said = run_example("own_model.py", tmp_path).splitlines()
    assert accuracy_in(said[0]) > 0.75
    assert {line.split(":")[0] for line in said[1:]} == {f"client {k}" for k in range(12)}
    assert sum(int(line.split()[-2]) for line in said[1:]) == 12 * 20
    profile = (tmp_path / "runs/own_model/profile.json").read_text("utf-8")
    assert "1 thread(s)" in profile  # measured as clients train
    session = onnxruntime.InferenceSession(tmp_path / "runs/own_model/model.onnx")
    images, labels = load_digits(return_X_y=True)
    inputs = (images[:500].reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    (logits,) = session.run(None, {session.get_inputs()[0].name: inputs})
    right = (logits.argmax(axis=1) == labels[:500]).mean()
    assert right == pytest.approx(accuracy_in(said[0]), abs=1e-3)


@pytest.mark.slow
def test_own_fleet_closes_rounds_in_time_and_takes_late_updates(tmp_path: Path) -> None:
    said = run_example("own_fleet.py", tmp_path)
    assert accuracy_in(said) > 0.7
    folder = tmp_path / "runs/own_fleet"
    assert all(r.round_seconds <= 6.0 for r in read_rounds(folder))
    assert {"ok", "late", "stale"} <= {c.status for c in read_clients(folder)}
    assert all(f"\n{device}: {{" in said for device in ("camera", "gateway", "sensor"))


@pytest.mark.slow
def test_own_callback_stops_and_the_run_that_goes_on_logs_every_round_once(tmp_path: Path) -> None:
    said = run_example("own_callback.py", tmp_path).splitlines()
    stopped = int(said[1].removeprefix("stopped after round ").split(":")[0])
    assert stopped < 24
    assert said[0].startswith("rounds 1 to 24")
    assert said[2].startswith(f"rounds {stopped + 1} to 24")
    assert said[3].startswith("after round 24")
    scalars = (tmp_path / "runs/own_callback/scalars.csv").read_text("utf-8")
    logged = [line.split(",") for line in scalars.splitlines()]
    accuracies = {int(number): float(v) for tag, number, v in logged if tag == "accuracy/deployed"}
    recorded = read_rounds(tmp_path / "runs/own_callback")
    assert accuracies == {r.round: r.deployed_accuracy for r in recorded}
    assert len(logged) == 3 * 24


@pytest.mark.slow
def test_robust_servers_keep_what_the_mean_loses(tmp_path: Path) -> None:
    mean, median, refused, reason = run_example("robust.py", tmp_path).splitlines()
    assert accuracy_in(median) > 0.85
    assert accuracy_in(refused) > 0.85
    assert accuracy_in(mean) < 0.5
    assert reason.startswith("refused: clients [3, 8]")


@pytest.mark.slow
def test_a_plain_loop_learns_who_is_slow_and_who_cannot(tmp_path: Path) -> None:
    said = run_example("plain_loop.py", tmp_path).splitlines()
    did = {line.split(":")[0]: line.split(", ")[1].split() for line in said[:-1]}
    assert did["round 1"] == ["qat"] * 6
    assert all(client[2] == "ptq" for name, client in did.items() if name != "round 1")
    assert did["round 24"][-1] == "ptq"  # the slowest
    assert did["round 24"].count("qat") >= 5
    assert accuracy_in(said[-1]) > 0.88
    state = json.loads((tmp_path / "runs/plain_loop/allocator.json").read_text("utf-8"))
    assert (state["num_clients"], state["forbidden"]) == (10, [[2, 1]])
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # which git ignores


def test_a_first_plan_spares_the_slowest_whose_data_others_have(capsys) -> None:
    runpy.run_path(str(ROOT / "examples" / "first_plan.py"), run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    ratio = float(re.findall(r"takes ([\d.]+) of a float step", said[0])[0])
    assert 1 < ratio < 3
    did = dict(line.split(": ") for line in said[1:-1])
    # The old phone alone holds two of the classes; the camera is the slowest, and holds none alone.
    assert (did["old phone"], did["camera"]) == ("qat-w2a2", "ptq-w2a2")


@pytest.mark.slow
@pytest.mark.long
def test_nvidia_flares_simulator_trains_as_each_client_was_told(tmp_path: Path) -> None:
    said = run_example("nvflare/job.py", tmp_path)
    rounds = re.findall(r"fedhq round (\d): (site-\d) (\S+) took [\d.]+ s and (\d+) bytes", said)
    size = str(encoded_bytes([(8, 2), (8,)], 4))
    told = {"site-1": "qat-w4a8", "site-2": "ptq-w4a8"}  # the second forbade itself the other
    assert rounds == [(n, site, told[site], size) for n in "12" for site in told]
    assert accuracy_in(said) > 0.6


def test_the_readme_names_every_extra_that_there_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    table = README.partition("| extra | brings |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*`[^|]*)\|", table, re.MULTILINE)))
    assert sorted(named) == sorted(project["optional-dependencies"])


def test_the_code_in_the_readme_that_is_no_session_is_an_examples() -> None:
    blocks = re.findall(r"^```python\n(?!>>>)(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert blocks
    texts = [path.read_text("utf-8") for path in (ROOT / "examples").rglob("*.py")]
    lines = [{line.strip() for line in text.splitlines()} for text in texts]
    for block in blocks:
        wanted = {line.strip() for line in block.splitlines()}
        assert any(wanted <= {"", *known} for known in lines), block


def test_the_configurations_in_the_readme_can_be_run() -> None:
    runs = [table for table in TABLES if "search" not in table]
    assert runs
    for table in runs:
        config = parse_run(table)
        federation = Federation.build(config.federation)
        assert len(federation.clients) >= config.federation.participation.cohort
        planned = make_allocator(config, federation).plan(1).round_seconds
        assert 0 < planned <= (config.allocation.deadline_seconds or 0)


def test_the_searches_in_the_readme_can_be_run() -> None:
    searches = [table for table in TABLES if "search" in table]
    assert searches
    for table in searches:
        config = parse_search(table)
        policies = Policies(config)
        for seeded in seed_trials(policies):
            assert policies.plan(seeded.params).solution.status.has_allocation, seeded


def test_every_public_name_is_there_and_where_the_type_checker_finds_it() -> None:
    names = fedhq.fl_core.__all__
    assert names == sorted(names)
    assert set(names) <= set(dir(fedhq.fl_core))
    tree = ast.parse(Path(fedhq.fl_core.__file__).read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in names:
        thing = getattr(fedhq.fl_core, name)
        assert thing.__name__ == name
        assert homes[name] in thing.__module__
    with pytest.raises(AttributeError, match="no attribute 'Trainers'"):
        fedhq.fl_core.Trainers  # type: ignore[attr-defined]


def test_settings_come_without_torch() -> None:
    code = (
        "import sys\n"
        "from fedhq.fl_core import FederationSettings, RoundRecord, ServerSettings\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
