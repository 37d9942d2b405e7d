"""A reproduction as a chain of jobs, and an array of parts of which one fails."""

import json
import re
import sqlite3
import sys

import pytest
from jobs import (
    NUM_PER_BATCH,
    NUM_STEPS,
    PREPROCESS_FLAGS,
    REPOSITORY,
    assert_tracked_once,
    choose_environment,
    read_journal_points,
    submit,
)

from pipeline.artifacts import RunDirectory

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def read_digest(shards):
    return json.loads((shards / "dataset.json").read_text())["digest"]


def test_each_job_of_a_chain_leaves_what_the_next_one_needs(cluster, chain):
    assert [start.world_size for start in RunDirectory(chain / "run").read_record().starts] == [4]
    assert max(step for _, step in read_journal_points(chain / "run")) == NUM_STEPS
    predictions = json.loads((chain / "run" / "predictions" / f"val-ten-step-{NUM_STEPS}.json").read_text())
    assert predictions["num_images"] == NUM_PER_BATCH
    assert "fig1-relu" in (chain / "page" / "report.md").read_text()
    assert_tracked_once(chain / "run", read_journal_points(chain / "run"))
    with sqlite3.connect(chain / "mlflow.db") as store:
        assert store.execute("select name, status from runs").fetchall() == [("run", "FINISHED")]
    cluster.wait_until_idle()
    assert cluster.list_processes() == {}


def test_the_line_of_status_repairs_an_array_with_a_failed_part(cluster, chain, cifar10, tmp_path):
    shards = tmp_path / "shards"
    words = ("--source", cifar10, "--out", shards, *PREPROCESS_FLAGS)
    first = submit(cluster, "preprocess", *words, cwd=tmp_path, options=("--array=0",), PARTS=3)
    cluster.wait_for(f"{first}_0", "COMPLETED")
    obstacle = shards / "train" / "train-000001.tar"
    obstacle.mkdir()  # where part 1 is to write a file
    rest = submit(cluster, "preprocess", *words, cwd=tmp_path, options=("--array=1-2",), PARTS=3)
    cluster.wait_for(f"{rest}_1", "FAILED")
    cluster.wait_for(f"{rest}_2", "COMPLETED")
    obstacle.rmdir()

    status = cluster.run(sys.executable, "-m", "pipeline", "preprocess", "status", str(shards), cwd=REPOSITORY).stdout
    line = re.search(r"sbatch .*", status)[0]
    assert "--array=1 " in line
    (tmp_path / "slurm").symlink_to(REPOSITORY / "slurm")
    said = cluster.run("bash", "-c", line, cwd=tmp_path, env=choose_environment(tmp_path)).stdout
    cluster.wait_for(f"{said.split()[-1]}_1", "COMPLETED")
    assert read_digest(shards) == read_digest(chain / "shards")
