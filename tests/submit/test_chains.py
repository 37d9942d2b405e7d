"""Which jobs a verb needs, in which order, and which it does not need because their work is done."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from submitting import fail, go_nowhere, print_plan, write_run

from pipeline.artifacts import ShardSet
from pipeline.cli import main
from pipeline.options import PreprocessConfig
from pipeline.preprocess.stage import preprocess

SIZE = ["--model.num-classes", "3"]


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site file that says nothing; there is no Slurm."""
    return go_nowhere(tmp_path, monkeypatch)


def list_dependencies(lines: dict[str, list[str]]) -> dict[str, str]:
    """What each job waits for, as sbatch is told; empty for nothing."""
    waits = {name: [word for word in line if word.startswith("--dependency=")] for name, line in lines.items()}
    return {name: found[0].removeprefix("--dependency=") if found else "" for name, found in waits.items()}


def list_words(line: list[str]) -> list[str]:
    """What a job's script is started with."""
    return line[next(place for place, word in enumerate(line) if word.endswith(".sbatch")) + 1 :]


def test_a_reproduction_is_four_jobs_each_after_the_one_before(pictures: Path, site: Path, tmp_path: Path, capsys):
    words = [
        "reproduce",
        "--source",
        str(pictures),
        "--data",
        "set",
        "--out",
        "run",
        "--parts",
        "3",
        "--site",
        str(site),
    ]
    more = [
        "--preprocess.pixels",
        "64",
        "--preprocess.allow-partial",
        "--evaluate.views",
        "center",
        "ten",
        "--seed",
        "5",
    ]
    lines = print_plan([*words, *more], capsys)
    assert list_dependencies(lines) == {
        "preprocess": "",
        "train": "afterok:$preprocess",
        "evaluate": "afterok:$train",
        "report": "afterok:$evaluate",
    }
    assert all("--kill-on-invalid-dep=yes" in lines[name] for name in ("train", "evaluate", "report"))
    assert "--array=0-2" in lines["preprocess"]
    out, data = tmp_path / "run", tmp_path / "set"
    assert {name: list_words(line) for name, line in lines.items()} == {
        "preprocess": ["--source", str(pictures), "--out", str(data), "--pixels", "64", "--allow-partial"],
        "train": ["source-2012", "--data", str(data), "--out", str(out), "--seed", "5"],
        "evaluate": [str(out), "--views", "center", "ten"],
        "report": [str(out), "--out", str(out / "report")],
    }
    assert all(f"--output={out}/slurm/alexnet-{name}-%" in " ".join(line) for name, line in lines.items())


def test_a_finished_shard_set_and_a_finished_run_are_not_made_again(
    few_pictures: Path, few_set: ShardSet, site: Path, tmp_path: Path, capsys
):
    run = write_run(tmp_path / "run", few_set, step=2, global_batch_size=9)
    words = ["reproduce", "paper", "--source", str(few_pictures), "--data", str(few_set.path), "--out", str(run)]
    size = [*SIZE, "--global-batch-size", "9", "--max-steps", "2", "--gpus-per-node=0", "--site", str(site)]
    packing = ["--preprocess.pixels=32", "--preprocess.images-per-shard=5"]
    main(["submit", *words, *size, *packing, "--dry-run"])
    said = capsys.readouterr().out
    assert f"# {few_set.path} is a finished shard set: nothing to preprocess" in said
    assert f"# {run} is trained to its end: nothing to train" in said
    assert "PARTS" not in said
    assert [line.split("=")[0] for line in said.splitlines() if "sbatch --parsable" in line] == ["evaluate", "report"]
    (run / "predictions").mkdir()
    for views in ("center", "ten"):
        (run / "predictions" / f"val-{views}-step-2.json").touch()
    assert list_dependencies(print_plan([*words, *size, *packing], capsys)) == {"report": ""}
    assert "evaluate" in print_plan([*words, *size, *packing, "--evaluate.checkpoint=best"], capsys)
    assert "evaluate" in print_plan([*words, *size, *packing, "--evaluate.split", "train"], capsys)


def test_a_run_that_is_not_at_its_last_step_goes_on(few_set: ShardSet, site: Path, tmp_path: Path, capsys):
    run = write_run(tmp_path / "run", few_set, step=179, global_batch_size=9)
    words = ["train", "paper", "--data", str(few_set.path), "--out", str(run), *SIZE, "--global-batch-size=9"]
    words += ["--gpus-per-node=0", "--site", str(site)]
    num_steps = 90 * (few_set.info.splits["train"].num_images // 9)
    assert num_steps == 90
    assert print_plan(words, capsys) == {}
    (run / "checkpoints" / "step-00000179.pt").rename(run / "checkpoints" / "step-00000089.pt")
    assert list_words(print_plan(words, capsys)["train"])[0] == "paper"


def test_only_the_parts_with_missing_shards_are_submitted_again(few_pictures: Path, tmp_path: Path, site: Path, capsys):
    out = tmp_path / "set"
    flags = {"source": few_pictures, "out": out, "pixels": 32, "images_per_shard": 5, "max_dropped": 0.1, "workers": 1}
    preprocess(PreprocessConfig(part="1/3", **flags))
    words = ["preprocess", "--source", str(few_pictures), "--out", str(out), "--pixels=32", "--images-per-shard=5"]
    words += ["--max-dropped=0.1", "--site", str(site)]
    assert "--array=0,2" in print_plan([*words, "--parts=3"], capsys)["preprocess"]
    assert "--array=0,2-3,5" in print_plan([*words, "--parts=6"], capsys)["preprocess"]  # shards 1 and 4 are there
    main(["submit", *words, "--parts=3", "--dry-run"])
    assert "export PARTS=3\n" in capsys.readouterr().out
    assert "was begun with --pixels 32, found --pixels 64" in fail(["submit", *words, "--pixels=64"], capsys)
    for part in ("0/3", "2/3"):
        preprocess(PreprocessConfig(part=part, **flags))
    capsys.readouterr()
    main(["submit", *words])  # which does not even look for Slurm
    assert capsys.readouterr().out == (
        f"submit: {out} is a finished shard set: nothing to preprocess\nsubmit: nothing to submit\n"
    )


def test_the_record_of_a_shard_set_lies_beside_it(pictures: Path, site: Path, tmp_path: Path, capsys):
    line = print_plan(["preprocess", "--source", str(pictures), "--out", "set", "--site", str(site)], capsys)
    assert f"--output={tmp_path}/set.slurm/alexnet-preprocess-%A-%a.log" in line["preprocess"]


def test_ablations_are_the_claims_that_this_imagenet_can_answer(few_set: ShardSet, site: Path, tmp_path: Path, capsys):
    words = ["ablations", "--data", str(few_set.path), "--out", "runs", *SIZE, "--site", str(site)]
    main(["submit", *words, "--dry-run"])
    said = capsys.readouterr().out
    left_out = [line for line in said.splitlines() if line.startswith("# left out: ")]
    assert [line.split()[3] for line in left_out] == [
        *("source-2010", "paper", "one-gpu", "six-conv-finetune", "fig1-relu", "fig1-tanh")
    ]
    assert "serves a claim on ILSVRC-2010" in left_out[0]
    assert "train --weights" in left_out[3]
    assert "of 10 classes" in left_out[4]
    lines = print_plan(words, capsys)
    names = ["source-2012", "no-lrn", "non-overlapping-pooling", "no-color", "no-dropout", "no-weight-decay"]
    names += ["without-conv3", "without-conv4", "without-conv5", "six-conv"]
    assert list(lines) == [
        *(f"{stage}_{name.replace('-', '_')}" for name in names for stage in ("train", "evaluate")),
        "report",
    ]
    waits = list_dependencies(lines)
    assert waits["evaluate_no_lrn"] == "afterok:$train_no_lrn"
    assert waits["report"] == "afterany:" + ":".join(f"$evaluate_{name.replace('-', '_')}" for name in names)
    assert list_words(lines["report"]) == [
        *(f"{tmp_path}/runs/{name}" for name in names),
        "--out",
        f"{tmp_path}/runs/report",
    ]
    assert "--job-name=alexnet-train-no-lrn" in lines["train_no_lrn"]
    assert f"--output={tmp_path}/runs/no-lrn/slurm/alexnet-train-no-lrn-%j.log" in lines["train_no_lrn"]
    chosen = print_plan([*words, "--only", "no-color", "six-conv", "--nodes=2"], capsys)
    assert list(chosen) == ["train_no_color", "evaluate_no_color", "train_six_conv", "evaluate_six_conv", "report"]


def test_an_ablation_that_cannot_be_trained_here_is_refused_when_it_is_named(few_set: ShardSet, site: Path, capsys):
    words = ["submit", "ablations", "--data", str(few_set.path), "--out", "runs", "--site", str(site), "--only"]
    assert "--only one-gpu serves a claim on ILSVRC-2010, and " in fail([*words, "one-gpu", "no-lrn"], capsys)
    assert "--only caffe serves no claim of the paper" in fail([*words, "caffe"], capsys)
    assert "unknown experiment 'no-lnr'" in fail([*words, "no-lnr"], capsys)


def test_seeds_are_runs_of_their_own_and_one_mean_of_them(few_set: ShardSet, site: Path, tmp_path: Path, capsys):
    words = ["seeds", "2", "paper", "--data", str(few_set.path), "--out", "runs", *SIZE, "--site", str(site)]
    lines = print_plan([*words, "--evaluate.views=center"], capsys)
    runs = [f"{tmp_path}/runs/seed-0", f"{tmp_path}/runs/seed-1"]
    for seed, run in enumerate(runs):
        trained = list_words(lines[f"train_seed_{seed}"])
        assert trained == ["paper", "--data", str(few_set.path), "--out", run, *SIZE, "--seed", str(seed)]
    assert list_dependencies(lines)["ensemble"] == "afterok:$evaluate_seed_0:$evaluate_seed_1"
    assert list_words(lines["ensemble"]) == [
        *(*runs, "--split", "val", "--views", "center", "--out", f"{tmp_path}/runs/ensemble.json")
    ]
    assert "leave out --seed" in fail(["submit", *words, "--seed=1"], capsys)
    assert "at least 2, found '1'" in fail(["submit", "seeds", "1", *words[2:]], capsys)


def test_a_claim_on_test_pictures_is_evaluated_on_them(pictures: Path, site: Path, tmp_path: Path, capsys):
    for name in ("train", "val", "test"):
        (tmp_path / f"ILSVRC2010_images_{name}.tar").touch()
    words = [
        "reproduce",
        "source-2010",
        "--source",
        str(tmp_path),
        "--data",
        str(tmp_path.parent / "set"),
        "--out",
        "run",
    ]
    lines = print_plan([*words, "--site", str(site)], capsys)
    assert list_words(lines["evaluate"]) == [f"{tmp_path}/run", "--split", "test"]
    (tmp_path / "train").mkdir()  # and so it could be class folders, too
    lines = print_plan([*words, "--preprocess.layout=ilsvrc2010", "--site", str(site)], capsys)
    assert list_words(lines["evaluate"]) == [f"{tmp_path}/run", "--split", "test"]
    words[words.index("--source") + 1] = str(pictures)
    assert list_words(print_plan([*words, "--site", str(site)], capsys)["evaluate"]) == [f"{tmp_path}/run"]


def test_a_dry_run_is_a_script_that_a_shell_accepts_and_json_says_the_same(
    pictures: Path, site: Path, tmp_path: Path, capsys
):
    site.write_text("SBATCH_ACCOUNT=\"a 'quoted' account\"\n")
    words = ["submit", "reproduce", "paper", "--source", str(pictures), "--data", "a set", "--out", "run", "--dry-run"]
    main([*words, "--site", str(site)])
    script = capsys.readouterr().out
    # A stand-in for sbatch shows what the shell makes of the lines; what Slurm makes of them is tested with Slurm.
    stand_in = (
        'sbatch() { echo "$SBATCH_ACCOUNT|$PARTS" >>told; printf "%s\\n" "$@" >>told; echo "1$(wc -l <told)"; }\n'
    )
    subprocess.run(["/bin/bash", "-c", stand_in + script], check=True, env={"PATH": "/usr/bin:/bin"})
    told = (tmp_path / "told").read_text().splitlines()
    assert told.count("a 'quoted' account|16") == 4
    assert f"{tmp_path}/a set" in told
    assert len([line for line in told if line.startswith("--dependency=afterok:1")]) == 3
    main([*words, "--site", str(site), "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert [job["name"] for job in plan["jobs"]] == ["preprocess", "train", "evaluate", "report"]
    assert plan["environment"]["SBATCH_ACCOUNT"] == "a 'quoted' account"
    assert plan["jobs"][1]["after"] == ["preprocess"]
    assert f"'{tmp_path}/a set'" in plan["jobs"][1]["line"]


def test_nothing_of_torch_is_imported_so_that_it_answers_at_once(few_set: ShardSet, site: Path):
    words = ["submit", "train", "paper", "--data", str(few_set.path), "--out", "run", *SIZE, "--site", str(site)]
    code = "import sys; from pipeline.cli import main; main(sys.argv[1:]); print([*sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code, *words, "--dry-run"], capture_output=True, text=True, check=True
    )
    imported = set(ast.literal_eval(ended.stdout.splitlines()[-1]))
    assert "pipeline.submit.status" in imported
    assert not imported & {"torch", "nvidia.dali", "mlflow", "scipy", "matplotlib"}
