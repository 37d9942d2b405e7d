"""A job that somebody cancels writes a checkpoint and stays cancelled."""

import pytest
from jobs import submit_train, wait_for_step

from pipeline.checkpoint import find_checkpoints

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_a_cancelled_job_writes_a_checkpoint_and_does_not_requeue_itself(cluster, chain, tmp_path):
    run = tmp_path / "run"
    job_id = submit_train(cluster, chain / "shards", run)
    wait_for_step(cluster, job_id, run, 10)
    cluster.run("scancel", job_id)
    job = cluster.wait_for(job_id, "CANCELLED", timeout=180)
    cluster.wait_until_idle()
    assert (cluster.read_job(job_id)["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    assert "alexnet-train: ended by Slurm, which may requeue it" in next(tmp_path.glob("*.log")).read_text()
    steps = [int(path.stem.removeprefix("step-")) for path in find_checkpoints(run / "checkpoints")]
    assert steps[-1] >= 10
    assert cluster.list_processes() == {}
