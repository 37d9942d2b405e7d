"""`alexnet submit` on a real Slurm: what it submits, what Slurm refuses, what it shows, and what it takes down."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jobs
import pytest
from cluster import Cluster, poll

from pipeline.artifacts import ShardSet, hold
from pipeline.preprocess.claim import part_lock

pytestmark = pytest.mark.slurm

SIZE = ("--model.num-classes=4", "--global-batch-size=8")
LATER = ("--sbatch", "--begin=now+1hour")
"""Jobs that stay in the queue."""


@pytest.fixture(autouse=True)
def queue(cluster: Cluster) -> Iterator[None]:
    """Leave an empty queue behind."""
    yield
    cluster.run("scancel", "--user=root")
    assert poll(lambda: not cluster.run("squeue", "--noheader").stdout, timeout=180)


def submit(
    cluster: Cluster, folder: Path, *words: object, check: bool = True, **env
) -> subprocess.CompletedProcess[str]:
    """Run `alexnet submit WORDS` on the login node; `folder/site.env` is the site's."""
    environment = jobs.choose_environment(folder, **env)
    command = (sys.executable, "-m", "pipeline", "submit", *map(str, words))
    return cluster.run(*command, cwd=folder, env=environment, check=check)


def fail(cluster: Cluster, folder: Path, *words: object, code: int = 2, **env) -> str:
    """The one sentence with which `alexnet submit WORDS` refuses."""
    ended = submit(cluster, folder, *words, check=False, **env)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def read_ids(said: str) -> dict[str, str]:
    """The jobs' numbers by name, of what `alexnet submit` said."""
    return dict(re.findall(r"^submit: (\S+) is job (\d+)", said, re.MULTILINE))


def read_status(cluster: Cluster, folder: Path, path: Path) -> dict[str, dict]:
    """What `alexnet submit status` knows of each job, by name."""
    status = json.loads(submit(cluster, folder, "status", path, "--json").stdout)
    assert status["note"] is None
    return {job["name"]: job for job in status["jobs"]}


def train(shard_set: ShardSet, out: Path) -> tuple[object, ...]:
    """Words for a training run."""
    return "train", "paper", "--data", shard_set.path, "--out", out, *SIZE


def write_stand_in(folder: Path) -> Path:
    """An environment whose `alexnet` does nothing until it is told to stop, and ends as training does then."""
    program = folder / "environment" / "bin" / "alexnet"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/bash\ntrap 'exit 75' TERM\nfor ((i = 0; i < 600; i++)); do sleep 0.1; done\n")
    program.chmod(0o755)
    return program.parents[1]


@pytest.mark.slow
def test_a_reproduction_whose_part_failed_goes_on_when_it_is_submitted_again(
    cluster: Cluster, cifar10: Path, tmp_path: Path
):
    data, run = tmp_path / "shards", tmp_path / "run"
    packing = [flag.replace("--", "--preprocess.") for flag in jobs.PREPROCESS_FLAGS]
    words = ("reproduce", "fig1-relu", "--source", cifar10, "--data", data, "--out", run, "--parts=3", "--nodes=2")
    words = (*words, *packing, *jobs.TRAIN_FLAGS, "--schedule.epochs=2", "--evaluate.device=cpu")
    with hold(part_lock(data, (1, 3))):  # as if that part were at work elsewhere
        first = read_ids(submit(cluster, tmp_path, *words).stdout)
        assert list(first) == ["preprocess", "train", "evaluate", "report"]
        cluster.wait_for(f"{first['preprocess']}_1", "FAILED")
        cluster.wait_for(first["report"], "CANCELLED")
        for part in (0, 2):
            cluster.wait_for(f"{first['preprocess']}_{part}", "COMPLETED")
        status = read_status(cluster, tmp_path, run)
    assert status["preprocess"]["state"] == "2 done, 1 failed"
    assert f"part 1/3 of {data} is being written" in status["preprocess"]["sentence"]
    assert status["preprocess"]["log"] == f"{run}/slurm/alexnet-preprocess-{first['preprocess']}-1.log"
    assert Path(status["preprocess"]["log"]).is_file()
    assert [job["failed"] for job in status.values()] == [True, False, False, False]
    assert status["report"]["why"] == "a job before it did not end well"
    assert shell_words(words) in status["preprocess"]["advice"]

    second = read_ids(submit(cluster, tmp_path, *words).stdout)
    assert cluster.read_job(second["preprocess"])["ArrayTaskId"] == "1"
    cluster.wait_for(second["report"], "COMPLETED", timeout=400)
    status = read_status(cluster, tmp_path, run)
    assert {name: (job["id"], job["state"], job["failed"]) for name, job in status.items()} == {
        name: (second[name], "done", False) for name in second
    }
    assert status["train"]["progress"].startswith("epoch 2.00 of 2, validation top-1 error ")
    assert status["train"]["tasks"][0]["nodes"] == "node[1-2]"
    assert (run / "report" / "report.md").is_file()
    assert f'"world_size": {2 * 2}' in (run / "config.json").read_text()
    plan = json.loads(submit(cluster, tmp_path, *words, "--dry-run", "--json").stdout)
    assert [job["name"] for job in plan["jobs"]] == ["report"]


def shell_words(words: tuple[object, ...]) -> str:
    """The command line that these words were."""
    return " ".join(("alexnet submit", *map(str, words)))


def test_a_second_submission_waits_for_the_first_or_its_end(cluster: Cluster, shard_set: ShardSet, tmp_path: Path):
    run = tmp_path / "run"
    first = read_ids(submit(cluster, tmp_path, *train(shard_set, run), *LATER).stdout)["train"]
    said = fail(cluster, tmp_path, *train(shard_set, run), *LATER)
    assert f"jobs of an earlier submission are still in the queue: train ({first}); wait" in said
    waiting = read_status(cluster, tmp_path, run)["train"]
    assert (waiting["state"], waiting["failed"]) == ("waits", False)
    assert waiting["why"].startswith("is to begin later (BeginTime), begins at ")
    assert submit(cluster, tmp_path, "cancel", run).stdout == f"submit: cancelled train ({first})\n"
    assert submit(cluster, tmp_path, "cancel", run).stdout == "submit: no job is left in the queue\n"
    assert read_status(cluster, tmp_path, run)["train"]["state"] == "cancelled"
    second = read_ids(submit(cluster, tmp_path, *train(shard_set, run), *LATER).stdout)["train"]
    assert read_status(cluster, tmp_path, run)["train"]["id"] == second != first


def test_a_job_that_is_cancelled_while_it_runs_does_not_come_back(
    cluster: Cluster, shard_set: ShardSet, tmp_path: Path
):
    run = tmp_path / "run"
    job = read_ids(submit(cluster, tmp_path, *train(shard_set, run), PYTHON_ENV=write_stand_in(tmp_path)).stdout)[
        "train"
    ]
    cluster.wait_for(job, "RUNNING")
    assert poll(lambda: "alexnet torchrun" in str(cluster.list_processes()), timeout=60)
    submit(cluster, tmp_path, "cancel", run)
    assert cluster.wait_for(job, "CANCELLED")["Restarts"] == "0"
    assert not cluster.run("squeue", "--noheader").stdout


@pytest.mark.parametrize(
    ("words", "site", "sentence"),
    [
        (
            ("--partition=nope",),
            "",
            "the cluster has no partition nope: choose one of main, short, closed with --partition",
        ),
        ((), "SBATCH_PARTITION=nope", "the cluster has no partition nope: choose one of"),
        (("--nodes=4",), "", "the train job asks for 4 nodes, and partition main gives at most 3: pass fewer --nodes"),
        (("--partition=short",), "", "asks for 30, and partition short gives at most 00:01:00: pass --time 00:01:00"),
        (
            ("--gpus-per-node=4",),
            "",
            "Slurm refuses the train job (Requested node configuration is not available): no node",
        ),
        ((), "GPU_TYPE=h100", "Slurm refuses the train job (Requested node configuration is not available): no node"),
        (
            ("--sbatch=--constraint=x",),
            "",
            "(Invalid feature specification): correct SBATCH_CONSTRAINT in slurm/site.env",
        ),
        (("--sbatch=--reservation=x",), "", "(Requested reservation is invalid): correct SBATCH_RESERVATION"),
        (("--sbatch=--cpus-per-task=4000",), "", "pass --sbatch --cpus-per-task=N"),
        (("--sbatch=--no-such",), "", "unrecognized option '--no-such'): change what it asks for"),
    ],
)
def test_what_slurm_cannot_give_is_one_sentence(words, site, sentence, cluster, shard_set: ShardSet, tmp_path: Path):
    (tmp_path / "site.env").write_text(f"{site}\n")
    assert sentence in fail(cluster, tmp_path, *train(shard_set, tmp_path / "run"), *words)
    assert not cluster.run("squeue", "--noheader").stdout
    assert not (tmp_path / "run" / "slurm" / "submission.json").exists()


def test_no_part_of_a_chain_stays_in_the_queue_when_a_later_job_is_refused(
    cluster: Cluster, cifar10: Path, tmp_path: Path
):
    (tmp_path / "site.env").write_text("GPU_TYPE=h100\n")
    words = ("reproduce", "fig1-relu", "--source", cifar10, "--data", tmp_path / "shards", "--out", tmp_path / "run")
    said = fail(cluster, tmp_path, *words, *LATER)
    assert "Slurm refuses the train job" in said
    assert "the jobs before it were cancelled: preprocess" in said
    assert not cluster.run("squeue", "--noheader").stdout


def test_a_controller_that_does_not_answer_is_one_sentence(cluster: Cluster, shard_set: ShardSet, tmp_path: Path):
    run, configuration = tmp_path / "run", tmp_path / "slurm.conf"
    submit(cluster, tmp_path, *train(shard_set, run), *LATER)
    configuration.write_text((cluster.folder / "slurm.conf").read_text() + "SlurmctldPort=6999\n")
    for words in (train(shard_set, run), ("cancel", run)):
        said = fail(cluster, tmp_path, *words, code=1, SLURM_CONF=configuration)
        assert "Slurm does not answer (" in said
        assert "Unable to contact slurm controller" in said
    status = json.loads(submit(cluster, tmp_path, "status", run, "--json", SLURM_CONF=configuration).stdout)
    assert "Slurm does not answer" in status["note"]
    assert [job["source"] for job in status["jobs"]] == ["files"]


@pytest.mark.parametrize(
    ("words", "site", "asked"),
    [
        ((), "", "gres:gpu:2"),
        (("--gpus-per-node=1",), "", "gres:gpu:1"),
        (("--gpus-per-node=1",), "GPU_TYPE=fake", "gres:gpu:fake:1"),
        (("--gpus-per-node=1",), "GPU_REQUEST=gpus-per-node", "gres:gpu:1"),
        (("--gpus-per-node=0",), "", None),
    ],
)
def test_slurm_counts_the_gpus_that_were_meant(words, site, asked, cluster, shard_set: ShardSet, tmp_path: Path):
    (tmp_path / "site.env").write_text(f"{site}\n")
    said = submit(cluster, tmp_path, *train(shard_set, tmp_path / "run"), *words, *LATER).stdout
    assert cluster.read_job(read_ids(said)["train"]).get("TresPerNode") == asked


def test_a_dry_run_is_a_script_that_submits_the_same(cluster: Cluster, cifar10: Path, tmp_path: Path):
    (tmp_path / "site.env").write_text("SBATCH_PARTITION=closed\nSBATCH_COMMENT=ours\n")
    words = (
        "reproduce",
        "fig1-relu",
        "--source",
        cifar10,
        "--data",
        tmp_path / "shards",
        "--nodes=2",
        "--parts=3",
        *LATER,
    )
    script = submit(cluster, tmp_path, *words, "--out", tmp_path / "one", "--dry-run").stdout
    assert not (tmp_path / "one").exists()
    numbers = "\necho $preprocess $train $evaluate $report"
    cluster.run("sh", "-c", script + numbers, cwd=tmp_path, env={"PARTS": "99"})
    by_hand = cluster.run("squeue", "--noheader", "--format=%A", "--sort=i").stdout.split()
    submitted = list(read_ids(submit(cluster, tmp_path, *words, "--out", tmp_path / "two").stdout).values())
    names = ("JobName", "Partition", "Comment", "NumNodes", "TresPerNode", "TimeLimit", "Requeue", "ArrayTaskId")
    for one, two in zip(by_hand, submitted, strict=True):
        found, expected = cluster.read_job(one), cluster.read_job(two)
        assert {name: found.get(name) for name in names} == {name: expected.get(name) for name in names}
        assert found["Partition"] == "closed"
        for left, right in zip(by_hand, submitted, strict=True):
            expected["Dependency"] = expected["Dependency"].replace(f":{right}", f":{left}")
        assert found["Dependency"] == expected["Dependency"]
        left, right = (Path(job["StdOut"]).relative_to(tmp_path) for job in (found, expected))
        assert str(left).replace("one/", "two/", 1).replace(one, two) == str(right)


def test_a_folder_of_runs_is_looked_at_and_taken_down_as_one(cluster: Cluster, shard_set: ShardSet, tmp_path: Path):
    runs = tmp_path / "runs"
    words = ("--data", shard_set.path, "--out", runs, *SIZE, *LATER)
    ids = read_ids(submit(cluster, tmp_path, "seeds", 2, "paper", *words).stdout)
    status = read_status(cluster, tmp_path, runs)
    assert {name: job["id"] for name, job in status.items()} == ids
    assert read_status(cluster, tmp_path, runs / "seed-1").keys() == {"train-seed-1", "evaluate-seed-1"}
    said = fail(cluster, tmp_path, *train(shard_set, runs / "seed-0"))
    assert "was begun otherwise" in said or f"train-seed-0 ({ids['train-seed-0']})" in said
    submit(cluster, tmp_path, "cancel", runs / "seed-1")
    assert {name: job["state"] for name, job in read_status(cluster, tmp_path, runs).items()} == {
        **dict.fromkeys(ids, "waits"),
        "train-seed-1": "cancelled",
        "evaluate-seed-1": "cancelled",
        "ensemble": "cancelled",
    }


def test_what_slurm_has_forgotten_is_told_by_files(cluster: Cluster, shard_set: ShardSet, tmp_path: Path):
    run, (later, train_id) = tmp_path / "run", ("--begin=now+1hour", "4711")
    job = read_ids(submit(cluster, tmp_path, *train(shard_set, run), "--sbatch", later).stdout)["train"]
    cluster.run("scancel", job)
    record = run / "slurm" / "submission.json"
    record.write_text(record.read_text().replace(f'"id": "{job}"', f'"id": "{train_id}"'))
    found = read_status(cluster, tmp_path, run)["train"]
    assert (found["id"], found["state"], found["source"], found["failed"]) == (train_id, "unknown", "files", True)
    assert shell_words(train(shard_set, run)) in found["advice"]


def test_accounting_remembers_what_the_queue_forgot(needs_slurm: None, tmp_path: Path):
    code = "import sys; from pipeline.submit.states import read_accounting; print(read_accounting(sys.argv[1:]))"
    with Cluster(num_nodes=1, accounting=True) as cluster:
        failed = cluster.submit("--wrap=exit 3", cwd=tmp_path)
        cluster.wait_for(failed, "FAILED")
        found = cluster.run(sys.executable, "-c", code, failed, "4711").stdout
    assert found.count("TaskState(") == 1
    for part in (f"'{failed}': [", "state='FAILED'", "exit_code=3", "nodes='node1'", "source='sacct -c'"):
        assert part in found
