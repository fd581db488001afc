"""`fedhq export` on real runs: what it writes is what the run evaluated, and faults are told."""

import argparse
import shutil
import sys
from dataclasses import replace

import onnx
import pytest
import torch
from torch import nn

import fedhq.models.export
from fedhq.fl_core.records.checkpoint import load_checkpoint, save_checkpoint
from fedhq.fl_core.records.recorder import read_rounds
from fedhq.studies.cli import main
from fedhq.studies.entry import run_command
from fedhq.studies.export import add_arguments

CHECKPOINT = "checkpoint.safetensors"


def export(*arguments):
    parser = argparse.ArgumentParser(prog="fedhq export")
    add_arguments(parser)
    return run_command(parser, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    changes = ["--set=data.name=digits", "--set=training.rounds=1"]
    assert main(["run", "demo", "--arm=all-QAT", f"--out={folder}", "--quiet", *changes]) == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of a finished run, to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def test_the_file_is_as_accurate_as_the_run_recorded(folder, capsys):
    (folder / "config.json").unlink()  # a run of a comparison has none: the checkpoint tells all
    assert export(folder) == 0
    recorded = read_rounds(folder)[-1].deployed_accuracy
    told = capsys.readouterr().out
    assert f"{recorded:.4f} fake-quantized, {recorded:.4f} in onnxruntime" in told
    path = folder / "model.onnx"
    for part in ("cnn 1x8x8", "weights of 2 bits", f"{path.stat().st_size:,} bytes", str(path)):
        assert part in told
    assert {"QuantizeLinear", "DequantizeLinear"} <= {n.op_type for n in onnx.load(path).graph.node}


def test_another_file_can_be_named_and_the_check_left_out(folder, tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "mine.onnx"
    assert export(folder, "--out", path, "--no-check") == 0
    assert "accuracy" not in capsys.readouterr().out
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert not (folder / "model.onnx").exists()


def test_differing_accuracies_are_a_fault(folder, monkeypatch, capsys):
    class AlwaysZero(nn.Module):
        def __init__(self, path):
            super().__init__()

        def forward(self, inputs):
            return torch.eye(10)[torch.zeros(len(inputs), dtype=torch.int64)]

    monkeypatch.setattr(fedhq.models.export, "OnnxModel", AlwaysZero)
    assert export(folder) == 2
    told = capsys.readouterr().err
    assert told.startswith("fedhq: error: the accuracy in onnxruntime must equal")
    assert "--no-check" in told


def unfinish(folder):
    saved = load_checkpoint(folder / CHECKPOINT)
    save_checkpoint(folder / CHECKPOINT, replace(saved, round_number=0))


def damage(folder):
    content = bytearray((folder / CHECKPOINT).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / CHECKPOINT).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "options", "parts"),
    [
        (lambda folder: (folder / CHECKPOINT).unlink(), [], ["folder of a run", CHECKPOINT]),
        (unfinish, [], ["finished run", "0 of 1 rounds", "fedhq run"]),
        (damage, [], [CHECKPOINT, "sha256"]),
        (lambda folder: None, ["--out=model.txt"], ["--out model.txt", ".onnx"]),
        (lambda folder: (folder / "model.onnx").mkdir(), [], ["model.onnx", "is a folder"]),
    ],
    ids=["no run", "unfinished", "damaged", "another suffix", "a folder"],
)
def test_what_cannot_be_exported_is_told_and_nothing_written(folder, capsys, spoil, options, parts):
    spoil(folder)
    before = sorted(folder.iterdir())
    assert export(folder, *options) == 2
    told = capsys.readouterr().err
    assert told.startswith("fedhq: error: ")
    for part in parts:
        assert part in told
    assert sorted(folder.iterdir()) == before


def test_missing_packages_are_named_with_their_extra(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export(folder) == 2
    told = capsys.readouterr().err
    assert "onnxruntime" in told
    assert "pip install 'fedhq[export]'" in told
