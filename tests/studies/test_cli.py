"""The command as a person uses it: real runs on real data, and clear words when it cannot."""

import json

import pytest

from fedhq.allocator import StepProfile
from fedhq.fl_core.records.recorder import read_rounds
from fedhq.studies.cli import main


def test_run_trains_records_saves_and_reports(config, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    assert main(["run", str(config), "--out", str(folder)]) == 0
    assert len(read_rounds(folder)) == 3
    assert json.loads((folder / "config.json").read_text("utf-8"))["training"]["rounds"] == 3
    assert (folder / "model.safetensors").stat().st_size > 1000
    page = (folder / "report.html").read_text("utf-8")
    assert "<html" in page
    assert f"fedhq run {config} --out {folder}" in page
    printed = capsys.readouterr()
    assert "deployed accuracy" in printed.out
    assert "report.html" in printed.out
    assert "3 of 3 rounds" in printed.err
    again = tmp_path / "again"
    assert main(["run", str(config), "--out", str(again), "--quiet"]) == 0
    for name in ("model.safetensors", "rounds.jsonl", "clients.jsonl", "config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert capsys.readouterr().err == ""


def test_a_model_that_cannot_be_written_is_named_and_written_by_the_next_run(
    config, tmp_path, capsys
) -> None:
    model = tmp_path / "out" / "model.safetensors"
    model.mkdir(parents=True)
    command = ["run", str(config), "--out", str(model.parent), "--quiet"]
    assert main(command) == 2
    assert f"`{model} can be written` must hold" in capsys.readouterr().err
    model.rmdir()
    assert main(command) == 0
    assert model.stat().st_size > 1000


def test_run_takes_one_arm_of_a_comparison(comparison_config, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    arguments = [
        "run",
        str(comparison_config),
        "--set",
        "compare.seeds=[5]",
        "--set",
        "training.rounds=1",
    ]
    assert main([*arguments, "--out", str(folder)]) == 0
    written = json.loads((folder / "config.json").read_text("utf-8"))
    assert (written["seed"], written["allocation"]["solver"]) == (5, "fedhq")
    assert written["fleet"]["skew_correlation"] == 0
    assert "independent" in capsys.readouterr().out
    folder = tmp_path / "other"
    assert main([*arguments, "--arm=random", "--scenario=tied", "--out", str(folder)]) == 0
    written = json.loads((folder / "config.json").read_text("utf-8"))
    assert written["allocation"]["solver"] == "random"
    assert isinstance(written["allocation"]["share"], float)
    assert written["fleet"]["skew_correlation"] == 1


def test_run_takes_the_demo(tmp_path) -> None:
    changes = ["--set", "data.name=digits", "--set", "training.rounds=1"]
    assert main(["run", "demo", "--arm", "all-PTQ", "--out", str(tmp_path), *changes]) == 0
    assert len(read_rounds(tmp_path)) == 1


def test_an_arm_that_fails_is_named_and_does_not_stop_the_others(config, tmp_path, capsys) -> None:
    bad = "menu = ['qat-w5a5']\nweight_bits = 5\nactivation_bits = 5\n"
    bad += "allocation = { solver = 'uniform', strategy = 'qat-w5a5' }\n"
    arms = f"[[arms]]\nname = 'bad'\n{bad}[[arms]]\nname = 'good'\n"
    config.write_text(config.read_text("utf-8") + arms, encoding="utf-8")
    folder = tmp_path / "out"
    assert main(["compare", str(config), "--out", str(folder)]) == 2
    told = capsys.readouterr().err
    assert "arm 'bad' in scenario 'default', seed 0 failed: " in told
    assert "qat-w5a5" in told
    assert len(read_rounds(folder / "default" / "good" / "seed-0")) == 3


def test_a_share_like_fedhqs_needs_a_fedhq_arm(config, tmp_path, capsys) -> None:
    arm = "[[arms]]\nname = 'a'\nallocation = { solver = 'random', share = 'fedhq' }\n"
    config.write_text(config.read_text("utf-8") + arm, encoding="utf-8")
    assert main(["compare", str(config), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    for part in ("arm 'a'", "allocation.share = 'fedhq'", "solver 'fedhq'"):
        assert part in told


def test_compare_pairs_arms_and_gives_random_as_many_qat_clients_as_fedhq(
    comparison_config, tmp_path, capsys
) -> None:
    folder = tmp_path / "out"
    assert main(["compare", str(comparison_config), "--out", str(folder)]) == 0
    runs = sorted(p.parent.relative_to(folder) for p in folder.rglob("rounds.jsonl"))
    assert len(runs) == 2 * 3 * 2
    for scenario in ("independent", "tied"):
        for seed in ("seed-0", "seed-1"):
            shares = [
                (folder / scenario / arm / seed / "clients.jsonl").read_text("utf-8").count("qat")
                for arm in ("random", "fedhq")
            ]
            assert shares[0] == shares[1]
    captured = capsys.readouterr()
    assert "12 of 12 runs, 36 of 36 rounds" in captured.err
    printed = captured.out
    assert printed.count("all-QAT") == 2
    assert "±" in printed
    written = json.loads((folder / "config.json").read_text("utf-8"))
    assert [written["compare"]["seeds"], len(written["runs"])] == [[0, 1], 12]
    assert f"fedhq compare {comparison_config} --out {folder}" in (
        folder / "report.html"
    ).read_text("utf-8")
    before = {run: (folder / run / "wall.jsonl").read_bytes() for run in runs}
    assert main(["compare", str(comparison_config), "--out", str(folder)]) == 0
    assert {run: (folder / run / "wall.jsonl").read_bytes() for run in runs} == before


def test_profile_writes_what_run_can_read(config, tmp_path, capsys) -> None:
    path = tmp_path / "new" / "folder" / "mine.json"
    arguments = ["--data", "digits", "--samples", "2", "--out", str(path)]
    assert main(["profile", *arguments]) == 0
    assert "ms a step" in capsys.readouterr().out
    changes = ["--set", f"profile={path}", "--set", "training.rounds=1"]
    assert main(["run", str(config), "--out", str(tmp_path / "out"), *changes]) == 0


def test_profile_predicts_what_a_float_step_elsewhere_tells(tmp_path, capsys) -> None:
    path = tmp_path / "told.json"
    asked = ["profile", "--data", "digits", "--model", "resnet20", "--batch-size", "4"]
    menu = ["--menu", "fp32,qat-w3a5", "--predict"]
    assert main([*asked, *menu, "0.5", "--out", str(path)]) == 0
    told = StepProfile.load(path)
    assert told.step_seconds[0] == 0.5 < told.step_seconds[1]
    assert "0.5" in told.origin or "500 ms" in told.origin
    assert main([*asked, *menu, "--samples", "1", "--out", str(path)]) == 0
    here = StepProfile.load(path)
    ratios = [p.step_seconds[1] / p.step_seconds[0] for p in (told, here)]
    assert ratios[0] == pytest.approx(ratios[1])
    wrong = [*asked, *menu, "--device", "d", "--uplink", "1", "--downlink", "1"]
    assert main([*wrong, "--out", str(path)]) == 2
    assert "Take --menu fp32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "nowhere.toml"], ["cannot read nowhere.toml"]),
        (["run", "CONFIG", "--set", "training.rounds=0"], ["training.rounds = 0", "equal to 1"]),
        (["run", "CONFIG", "--set", "menu=['qat-w9a9']"], ["weight_bits", "9"]),
        (["run", "CONFIG", "--set", "menu=['magic']"], ["'magic'", "qat-w2a2"]),
        (["run", "CONFIG", "--set", "profile=gone.json"], ["gone.json", "fedhq profile"]),
        (
            [
                *("run", "CONFIG", "--set=menu=['qat-w5a5']"),
                *("--set=weight_bits=5", "--set=activation_bits=5"),
            ],
            ["qat-w5a5", "not measured"],
        ),
        (["run", "CONFIG", "--arm", "a"], ["--arm", "no [[arms]]"]),
        (["run", "CONFIG", "--workers", "0"], ["`workers >= 1`", "got 0"]),
        (["run", "CONFIG", "--target-accuracy", "nan"], ["--target-accuracy nan"]),
        (["run", "demo", "--arm", "best"], ["--arm 'best'", "'all-QAT'"]),
        (["run", "demo", "--scenario", "best"], ["--scenario 'best'", "'correlated'"]),
        (["profile", "--batch-size", "0"], ["`batch_size >= 1`", "0"]),
        (["profile", "--samples", "0"], ["`samples >= 1`", "0"]),
        (["profile", "--threads", "0"], ["--threads 0", "at least 1"]),
        (
            [
                "run",
                "CONFIG",
                "--set",
                "menu=['ptq-w2a2', 'qat-w2a2']",
                "--set",
                "allocation.deadline_seconds=1e-4",
            ],
            ["deadline_seconds = 0.0001", "deadline_seconds >= ", "'3' "],
        ),
        (["run", "CONFIG", "--set", "allocation.solver=milp"], ["tradeoff", "max_loss"]),
        (["compare", "CONFIG"], ["[[arms]]"]),
    ],
)
def test_faults_are_told_in_one_message_that_names_value_and_rule(
    config, tmp_path, capsys, arguments, parts
) -> None:
    arguments = [str(config) if a == "CONFIG" else a for a in arguments]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("fedhq: error: ")
    for part in parts:
        assert part in told


def test_a_damaged_checkpoint_is_named(config, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    assert main(["run", str(config), "--out", str(folder)]) == 0
    checkpoint = folder / "checkpoint.safetensors"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert main(["run", str(config), "--out", str(folder)]) == 2
    assert "checkpoint.safetensors" in capsys.readouterr().err


def test_a_run_is_not_resumed_with_other_step_times(config, tmp_path, capsys) -> None:
    path = tmp_path / "mine.json"
    main(["profile", "--data", "digits", "--samples", "1", "--out", str(path)])
    command = ["run", str(config), "--out", str(tmp_path / "out"), "--set", f"profile={path}"]
    assert main(command) == 0
    profile = json.loads(path.read_text("utf-8"))
    for row in profile["strategies"].values():
        row["step_seconds"] *= 2
    path.write_text(json.dumps(profile), encoding="utf-8")
    assert main(command) == 2
    assert "digests.costs" in capsys.readouterr().err


def test_help_teaches(capsys) -> None:
    for arguments in (["--help"], ["compare", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "fedhq compare demo" in printed
    assert "training.rounds=5" in printed


def test_what_the_system_refuses_is_told_with_its_path(config, tmp_path, capsys) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    for arguments in (["run", str(config)], ["profile"]):
        assert main([*arguments, "--out", str(blocked / "below" / "out")]) == 2
        told = capsys.readouterr().err
        assert told.startswith("fedhq: error: ")
        assert str(blocked / "below") in told
    assert main(["profile", "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_only_what_resumes_promises_to(tmp_path, monkeypatch, capsys) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedhq.studies.profile.measure_profile", interrupt)
    monkeypatch.setattr("fedhq.studies.cli.run_comparison", interrupt)
    assert main(["profile", "--out", str(tmp_path / "p.json")]) == 130
    assert capsys.readouterr().err == "fedhq: stopped.\n"
    assert main(["compare", "demo", "--out", str(tmp_path)]) == 130
    assert "the same command resumes" in capsys.readouterr().err
