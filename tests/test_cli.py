"""The command line: help that reads well, and one sentence with exit code 2 for each mistake."""

from pathlib import Path

import pytest
from commands import run_command

from pipeline.artifacts import ShardSet
from pipeline.cli import COMMANDS, main
from pipeline.experiments import EXPERIMENTS
from pipeline.parsing import flatten_panel


def fail(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end with exit code 2; returns what it said on standard error."""
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_help_names_every_command_with_a_summary(capsys):
    main(["--help"])
    said = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in said
        assert command.summary in said


@pytest.mark.parametrize("command", ["preprocess", "evaluate", "report", "sync", "bench", "demo", "doctor"])
def test_help_of_each_command_begins_with_its_summary(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: alexnet {command} ")
    assert COMMANDS[command].summary[:40] in said


def test_help_of_train_shows_the_values_of_the_experiment(capsys):
    with pytest.raises(SystemExit):
        main(["train", "tutorial-half", "--help"])
    said = capsys.readouterr().out
    assert "--augment.pixel-scale FLOAT" in said
    assert "(default: 127.5)" in said


def test_train_help_without_an_experiment_lists_them(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in EXPERIMENTS)


def test_experiments_lists_each_with_claim_and_source(capsys):
    main(["experiments"])
    said = " ".join(capsys.readouterr().out.split())
    for experiment in EXPERIMENTS.values():
        assert experiment.name in said
        assert experiment.source in said


def test_describe_prints_the_paper_s_parameters_and_follows_overrides(capsys):
    main(["describe", "source-2012"])
    said = capsys.readouterr().out
    assert "60,965,224" in said
    assert "source-2012 (as registered)" in said
    main(["describe", "source-2012", "--model.num-classes", "10"])
    said = capsys.readouterr().out
    assert f"{60_965_224 - 990 * 4097:,}" in said
    assert "source-2012 (modified)" in said


MISTAKES = {
    "an unknown command": (["trian"], "unknown command 'trian'", "preprocess, augment, train"),
    "an unknown experiment": (["train", "papr"], "unknown experiment 'papr'", "source-2010, source-2012, paper"),
    "no experiment": (["train"], "name an experiment first", ""),
    "a flag before the experiment": (["train", "--data", "x"], "name the experiment before --data", ""),
    "an unknown field": (
        ["train", "paper", "--data", "x", "--out", "y", "--modl.width", "2"],
        "Unrecognized options: --modl.width",
        "--model.width",
    ),
    "a value of the wrong kind": (
        ["train", "paper", "--data", "x", "--out", "y", "--model.width", "wide"],
        "--model.width",
        "'wide'",
    ),
    "a value that is no choice": (
        ["train", "paper", "--data", "x", "--out", "y", "--precision", "fp8"],
        "invalid choice 'fp8' for argument '--precision'",
        "'bfloat16'",
    ),
    "a value out of range": (
        ["train", "paper", "--data", "x", "--out", "y", "--global-batch-size", "-3"],
        "--global-batch-size must be positive, found -3",
        "",
    ),
    "a width that towers cannot share": (
        ["describe", "paper", "--model.width", "0.3"],
        "gives conv1 29 kernels, which 2 towers cannot share",
        "choose another width or number of towers",
    ),
    "a missing flag": (["train", "paper", "--data", "x"], "--out PATH", "alexnet train paper --help"),
    "a missing word": (["evaluate"], "RUN", "alexnet evaluate --help"),
    "a missing shard set": (
        ["train", "paper", "--data", "/no/such/set", "--out", "y"],
        "/no/such/set is not a directory",
        "alexnet preprocess",
    ),
    "a missing source": (["preprocess", "--source", "/no/such", "--out", "y"], "/no/such does not exist", ""),
    "a missing run": (["evaluate", "/no/such/run"], "/no/such/run has no config.json", "alexnet train"),
    "a missing run for the report": (["report", "/no/such/run"], "/no/such/run has no config.json", ""),
    "a missing run for sync": (["sync", "/no/such/run"], "/no/such/run has no config.json", ""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_line_that_says_what_and_how(mistake, capsys):
    words, found, advice = MISTAKES[mistake]
    said = fail(words, capsys)
    assert said.count("\n") == 1
    assert found in said
    assert advice in said
    assert "Traceback" not in said


def test_a_real_process_ends_with_code_2_and_nothing_but_the_sentence():
    result = run_command("train", "paper", "--data", "/no/such/set", "--out", "/no/such/run")
    assert result.returncode == 2
    assert result.stderr == (
        "alexnet train: /no/such/set is not a directory: pass the directory that `alexnet preprocess` wrote\n"
    )
    assert result.stdout == ""


def test_wrong_number_of_classes_names_the_flag(shard_set: ShardSet, tmp_path: Path, capsys):
    said = fail(["train", "paper", "--data", str(shard_set.path), "--out", str(tmp_path / "run")], capsys)
    assert "has 4 classes and the network 1000 outputs: pass --model.num-classes 4" in said
    assert not (tmp_path / "run").exists()


def test_panel_becomes_a_sentence_without_help_texts():
    panel = (
        "╭─ Required options ─────╮\n│ Missing from alexnet x: │\n│     --out PATH          │\n"
        "│         Where. (required)│\n│ ─────────────────────── │\n│ For full helptext, run: │\n╰──────╯\n"
    )
    assert flatten_panel(panel) == "Missing from alexnet x: --out PATH"
