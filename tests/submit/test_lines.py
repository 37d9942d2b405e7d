"""The exact lines of sbatch."""

from pathlib import Path

import pytest
from submitting import REPOSITORY, fail, go_nowhere, print_plan

from pipeline.artifacts import ShardSet
from pipeline.submit.request import count_seconds

SIZE = ["--model.num-classes", "3"]


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site file that says nothing; there is no Slurm."""
    return go_nowhere(tmp_path, monkeypatch)


def plan_train(few_set: ShardSet, site: Path, capsys, *words: str) -> list[str]:
    """The line for a training run."""
    base = ["train", "paper", "--data", str(few_set.path), "--out", "run", *SIZE, "--site", str(site)]
    return print_plan([*base, *words], capsys)["train"]


def test_a_line_in_full(few_set: ShardSet, site: Path, tmp_path: Path, capsys):
    words = ("--nodes=2", "--gpus-per-node", "4", "--time", "1-12:00:00", "--partition", "gpu", "--account=vision")
    more = ("--qos", "high", "--sbatch", "--exclude=node7 --mem=100G", "--seed=3", "--signal-seconds", "300")
    assert plan_train(few_set, site, capsys, *words, *more) == [
        *("sbatch", "--parsable", f"--output={tmp_path}/run/slurm/alexnet-train-%j.log"),
        *("--partition=gpu", "--account=vision", "--qos=high", "--time=1-12:00:00", "--signal=B:USR1@300"),
        *("--nodes=2", "--gres=gpu:4", "--exclude=node7", "--mem=100G", f"{REPOSITORY}/slurm/train.sbatch"),
        *("paper", "--data", str(few_set.path), "--out", f"{tmp_path}/run", *SIZE, "--seed=3"),
    ]


@pytest.mark.parametrize(
    ("lines", "words", "expected"),
    [
        ("", [], []),
        ("", ["--gpus-per-node", "1"], ["--gres=gpu:1"]),
        ("", ["--gpus-per-node", "0"], ["--gres=none"]),
        ("GPU_TYPE=h100", [], ["--gres=gpu:h100:2"]),
        ("GPU_TYPE=h100", ["--gpus-per-node", "4"], ["--gres=gpu:h100:4"]),
        ("GPU_REQUEST=gpus-per-node", [], ["--gres=none", "--gpus-per-node=2"]),
        ("GPU_REQUEST=gpus-per-node\nGPU_TYPE=a100", ["--gpus-per-node=4"], ["--gres=none", "--gpus-per-node=a100:4"]),
        ("GPU_REQUEST=gpus-per-node", ["--gpus-per-node", "0"], ["--gres=none"]),
    ],
)
def test_gpus_are_asked_for_as_the_site_wants_it(lines, words, expected, few_set: ShardSet, site: Path, capsys):
    site.write_text(lines)
    line = plan_train(few_set, site, capsys, *words)
    assert [word for word in line if word.startswith(("--gres", "--gpus"))] == expected


def test_jobs_without_gpus_go_to_the_partition_for_them(pictures: Path, site: Path, capsys):
    site.write_text("CPU_PARTITION=cpu\nGPU_TYPE=h100\n")
    words = ["reproduce", "paper", "--source", str(pictures), "--data", "set", "--out", "run", "--site", str(site)]
    lines = print_plan([*words, "--partition", "gpu", "--nodes", "2"], capsys)
    wanted = ("--partition", "--gres", "--nodes")
    assert {name: [word for word in line if word.startswith(wanted)] for name, line in lines.items()} == {
        "preprocess": ["--partition=cpu"],
        "train": ["--partition=gpu", "--nodes=2", "--gres=gpu:h100:2"],
        "evaluate": ["--partition=gpu", "--gres=gpu:h100:2"],
        "report": ["--partition=cpu"],
    }


def test_a_time_limit_is_for_training_and_for_what_would_ask_for_more(pictures: Path, site: Path, capsys):
    words = ["reproduce", "paper", "--source", str(pictures), "--data", "set", "--out", "run", "--site", str(site)]
    lines = print_plan([*words, "--time", "3:00:00"], capsys)
    times = {name: [word for word in line if word.startswith("--time")] for name, line in lines.items()}
    assert times == {"preprocess": ["--time=3:00:00"], "train": ["--time=3:00:00"], "evaluate": [], "report": []}


def test_options_of_sbatch_may_be_for_one_stage(pictures: Path, site: Path, capsys):
    words = ["reproduce", "paper", "--source", str(pictures), "--data", "set", "--out", "run", "--site", str(site)]
    lines = print_plan(
        [*words, "--sbatch", "--comment=a:b", "--sbatch=train:--mem=9G --exclusive", "--parts=2"], capsys
    )
    for name, line in lines.items():
        assert "--comment=a:b" in line
        assert ("--mem=9G" in line, "--exclusive" in line) == (name == "train",) * 2


@pytest.mark.parametrize(
    "option", ["--nodes=2", "-N2", "train:--gres=gpu:4", "--array=1-2", "--gpus-per-task 1", "word"]
)
def test_what_submit_has_flags_for_is_not_for_sbatch(option: str, few_set: ShardSet, site: Path, capsys):
    words = ["--data", str(few_set.path), "--out", "run", *SIZE, "--site", str(site), "--dry-run", "--sbatch", option]
    said = fail(["submit", "train", "paper", *words], capsys)
    assert f"--sbatch {option}: " in said


def test_variables_reach_the_jobs_and_say_whence_the_code_comes(few_set: ShardSet, site: Path, capsys):
    site.write_text("SBATCH_PARTITION='one, two'\n")
    from pipeline.cli import main

    words = ["--ranks-per-node=4", "--gpus-per-node=0", "--max-requeues=7", "--max-restarts=0", "--dry-run"]
    main(["submit", "train", "paper", "--data", str(few_set.path), "--out=run", *SIZE, "--site", str(site), *words])
    exported = [line for line in capsys.readouterr().out.splitlines() if line.startswith("export ")]
    assert exported == [
        f"export ALEXNET_HOME={REPOSITORY}",
        "export MAX_REQUEUES=7",
        f"export ALEXNET_SITE={site}",
        "export MAX_RESTARTS=0",
        "export RANKS_PER_NODE=4",
        "export SBATCH_PARTITION='one, two'",
    ]


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("90", 5400),
        ("2:30", 150),
        ("1:02:03", 3723),
        ("1-0", 86400),
        ("2-12:30", 217800),
        ("1-00:00:01", 86401),
        ("UNLIMITED", float("inf")),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(limit: str, seconds: float):
    assert count_seconds(limit) == seconds
