"""Training that is interrupted twice ends as if nothing had happened: pre-emption, time limits."""

import os
import signal

import pytest
from cluster import poll
from jobs import assert_undisturbed, find_ranks, has_pending_term, submit_train, wait_for_step

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_training_goes_on_after_two_preemptions(cluster, chain, tmp_path):
    run = tmp_path / "run"
    job_id = submit_train(cluster, chain / "shards", run)
    for step in (10, 40):
        wait_for_step(cluster, job_id, run, step)
        cluster.requeue(job_id)
        cluster.start_now(job_id)
    assert cluster.wait_for(job_id, "COMPLETED", timeout=300)["Restarts"] == "2"
    assert_undisturbed(cluster, run, chain / "run")


def test_training_goes_on_after_two_time_limits(cluster, chain, tmp_path):
    run = tmp_path / "run"
    job_id = submit_train(cluster, chain / "shards", run)
    for step in (10, 40):
        wait_for_step(cluster, job_id, run, step)
        reach_time_limit(cluster, job_id)
        cluster.start_now(job_id)
    assert cluster.wait_for(job_id, "COMPLETED", timeout=300)["Restarts"] == "2"
    assert_undisturbed(cluster, run, chain / "run")


def reach_time_limit(cluster, job_id):
    """Have Slurm announce the end of a job's time, which it does within 30 s, while its ranks stand still."""
    ranks = find_ranks(cluster)
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    *_, hours, minutes, _ = ("0", *cluster.read_job(job_id)["RunTime"].replace("-", ":").split(":"))
    limit = 60 * int(hours) + int(minutes) + 1  # a minute that has not passed yet
    cluster.run("scontrol", "update", f"jobid={job_id}", f"TimeLimit={limit}")
    assert poll(lambda: all(map(has_pending_term, ranks)), timeout=180), cluster.describe(job_id)
    for rank in ranks:
        os.kill(rank, signal.SIGCONT)
    cluster.wait_for(job_id, "PENDING")
    cluster.run("scontrol", "update", f"jobid={job_id}", "TimeLimit=30")
