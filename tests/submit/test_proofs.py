"""What is wrong is said when it is submitted, not after days in the queue."""

from pathlib import Path

import pytest
from submitting import fail, go_nowhere, print_plan, write_run

from pipeline.artifacts import ShardSet
from pipeline.cli import main

SIZE = ["--model.num-classes", "3"]
MISTAKES = {
    "a flag of the stage that there is none": (["--shedule.epochs", "3"], "Unrecognized options: --shedule.epochs"),
    "a flag of submit that there is none": (["--partiton=gpu"], "--partiton is unknown: did you mean --partition?"),
    "a value of the stage": (["--precision", "fp8"], "invalid choice 'fp8' for argument '--precision'"),
    "a value of submit": (["--nodes", "two"], "--nodes"),
    "a value that is missing": (["--nodes"], "--nodes"),
    "no node": (["--nodes", "0"], "--nodes must be at least 1, found 0"),
    "a time that is none": (["--time", "3 days"], "--time 3 days is no time limit: write minutes, H:MM:SS"),
    "a batch that does not divide": (["--nodes", "3"], "--global-batch-size 128 does not divide over 6 ranks"),
    "ranks on CPUs that do not divide it": (
        ["--gpus-per-node=0", "--ranks-per-node=3"],
        "does not divide over 3 ranks",
    ),
    "towers that ranks cannot share": (
        ["--gpus-per-node", "3", "--towers", "2"],
        "3 ranks cannot share networks among 2",
    ),
    "other classes": (
        ["--model.num-classes", "7"],
        "has 3 classes and the network 7 outputs: pass --model.num-classes 3",
    ),
    "a flag that the job sets": (["--resume"], "leave out --resume: a job goes on by itself"),
    "a flag of a stage that is not submitted": (["--evaluate.views=ten"], "Unrecognized options: --evaluate.views"),
    "weights that have no use": (["--weights", "run"], "--weights"),
}


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site file that says nothing; there is no Slurm."""
    return go_nowhere(tmp_path, monkeypatch)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_sentence_before_anything_is_submitted(mistake, few_set: ShardSet, site: Path, capsys):
    words, found = MISTAKES[mistake]
    base = ["submit", "train", "paper", "--data", str(few_set.path), "--out", "run", *SIZE, "--site", str(site)]
    assert found in fail([*base, *words], capsys)
    assert not Path("run").exists()


def test_what_is_to_be_read_has_to_be_there(pictures: Path, few_set: ShardSet, site: Path, tmp_path: Path, capsys):
    at = ["--site", str(site)]
    made = ["submit", "reproduce", "paper", "--data", "set", "--out", "run", *at, "--source"]
    assert "--source /no/such does not exist" in fail([*made, "/no/such"], capsys)
    (tmp_path / "empty").mkdir()
    assert "are no known layout" in fail([*made, str(tmp_path / "empty")], capsys)
    train = ["submit", "train", "paper", "--out", "run", *at, "--data"]
    assert "/no/such is not a directory" in fail([*train, "/no/such"], capsys)
    assert f"{pictures} has no dataset.json" in fail([*train, str(pictures)], capsys)
    assert f"{tmp_path}/run has no config.json" in fail(["submit", "evaluate", "run", *at], capsys)
    assert "run has no config.json" in fail(["submit", "report", "run", *at], capsys)
    begun = [*train, str(few_set.path), *SIZE, "--pretrained=features"]
    assert "--weights /no/such does not exist" in fail([*begun, "--weights", "/no/such"], capsys)
    assert "begins with the weights of another network: pass --weights" in fail(begun, capsys)


def test_a_run_directory_is_free_or_of_the_same_run(
    few_set: ShardSet, shard_set: ShardSet, site: Path, tmp_path: Path, capsys
):
    words = ["submit", "train", "paper", "--data", str(few_set.path), *SIZE, "--site", str(site), "--out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    assert "mine already exists and holds no run" in fail([*words, "mine"], capsys)
    run = write_run(tmp_path / "other", few_set, experiment="source-2010")
    assert f"--out {run} belongs to experiment 'source-2010' (modified), not to 'paper'" in fail(
        [*words, str(run)], capsys
    )
    run = write_run(tmp_path / "elsewise", few_set, seed=4)
    assert f"--out {run} was begun otherwise (seed is 4 there and 0 now)" in fail([*words, str(run)], capsys)
    run = write_run(tmp_path / "elsewhere", few_set, digest=shard_set.info.digest)
    assert f"--out {run} was trained on another shard set than --data: pass " in fail([*words, str(run)], capsys)
    run = write_run(tmp_path / "same", few_set)
    assert "train" in print_plan([*words[1:], str(run)], capsys)
    (tmp_path / "free" / "slurm").mkdir(parents=True)
    (tmp_path / "free" / "dataset.json").touch()  # of a start that was killed before it wrote config.json
    assert "train" in print_plan([*words[1:], "free"], capsys)


def test_paths_are_absolute_however_they_are_given(few_set: ShardSet, site: Path, tmp_path: Path, capsys):
    (tmp_path / "data").symlink_to(few_set.path)
    (tmp_path / "val").mkdir()
    write_run(tmp_path / "val" / "run", few_set)
    for given in (["--data=data"], ["--data", "./data/"]):
        line = print_plan(["evaluate", "./val/run/", *given, "--split", "val", "--site=site.env"], capsys)["evaluate"]
        words = " ".join(line).partition("evaluate.sbatch ")[2]
        assert words.replace("=", " ") == f"{tmp_path}/val/run --data {tmp_path}/data --split val"


def test_without_slurm_there_is_one_sentence_and_nothing_is_left(few_set: ShardSet, site: Path, tmp_path: Path, capsys):
    words = ["submit", "train", "paper", "--data", str(few_set.path), "--out", "run", *SIZE, "--site", str(site)]
    said = fail(words, capsys)
    assert "alexnet submit train: there is no Slurm here, `scontrol` is not to be found: submit on a login node" in said
    assert not (tmp_path / "run").exists()


def test_a_page_that_is_no_report_is_not_replaced(few_set: ShardSet, site: Path, tmp_path: Path, capsys):
    write_run(tmp_path / "run", few_set)
    (tmp_path / "report.md").write_text("# Dear diary")
    said = fail(["submit", "report", "run", "--out", ".", "--site", str(site)], capsys)
    assert f"{tmp_path}/report.md exists and was not written by `alexnet report`" in said


def test_a_site_that_says_no_number_of_ranks_is_corrected(few_set: ShardSet, site: Path, capsys):
    site.write_text("RANKS_PER_NODE=two\n")
    words = ["submit", "train", "paper", "--data", str(few_set.path), "--out", "run", *SIZE, "--site", str(site)]
    assert f"RANKS_PER_NODE is two in {site}" in fail(words, capsys)


def test_what_was_never_submitted_has_no_status(tmp_path: Path, capsys):
    assert f"nothing was submitted for {tmp_path}: pass the --out" in fail(["submit", "status", "."], capsys)
    assert "nothing was submitted for" in fail(["submit", "cancel", "run"], capsys)


@pytest.mark.parametrize("words", [[], ["trian"], ["--json"]])
def test_verbs_are_named_where_there_is_none(words: list[str], capsys):
    said = fail(["submit", *words], capsys)
    assert "one of reproduce, preprocess, train, evaluate, report, ablations, seeds, status, cancel" in said
    assert ("unknown 'trian'" in said) == (words == ["trian"])


@pytest.mark.parametrize("verb", ["reproduce", "train", "seeds", "ablations", "evaluate", "status"])
def test_help_of_each_verb_lists_its_flags(verb: str, capsys):
    with pytest.raises(SystemExit) as end:
        main(["submit", verb, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: alexnet submit {verb} ")
    assert ("--sbatch STR" in said) == (verb != "status")
