"""What fails on the way is mended, or ends the job with a sentence."""

import os
import signal

import pytest
from cluster import Cluster
from jobs import assert_undisturbed, find_ranks, submit, submit_train, wait_for_step

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_a_killed_rank_and_a_crashed_node_leave_no_trace_in_the_results(needs_slurm, chain, tmp_path):
    run = tmp_path / "run"
    with Cluster(names="own") as cluster:
        job_id = submit_train(cluster, chain / "shards", run)
        wait_for_step(cluster, job_id, run, 10)
        os.kill(find_ranks(cluster, "node2")[0], signal.SIGKILL)
        wait_for_step(cluster, job_id, run, 40)
        assert cluster.read_job(job_id)["Restarts"] == "0"
        cluster.crash_node("node2")
        job = cluster.wait_for(job_id, "COMPLETED", timeout=400)
        assert (int(job["Restarts"]) > 0, job["NodeList"]) == (True, "node[1,3]")
        assert_undisturbed(cluster, run, chain / "run")


def test_a_mistake_is_a_sentence_and_ends_the_chain(cluster, tmp_path):
    job_id = submit_train(cluster, tmp_path / "nowhere", tmp_path / "run")
    words = (tmp_path / "run", "--out", tmp_path / "page")
    after = (f"--dependency=afterok:{job_id}", "--kill-on-invalid-dep=yes")
    report = submit(cluster, "report", *words, cwd=tmp_path, options=after)
    assert cluster.wait_for(job_id, "FAILED")["ExitCode"] == "2:0"
    assert cluster.wait_for(report, "CANCELLED")["Reason"] == "DependencyNeverSatisfied"
    log = next(tmp_path.glob("alexnet-train-*.log")).read_text()
    sentence = (
        f"alexnet train: {tmp_path / 'nowhere'} is not a directory: pass the directory that `alexnet preprocess` wrote"
    )
    assert f"alexnet-train: {sentence}" in log.splitlines()
