"""The pretended cluster behaves like one: nodes apart from each other, crashes that are noticed, nothing left over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster, poll

pytestmark = pytest.mark.slurm

WHO_AND_WHERE = "srun --nodes=2 --ntasks-per-node=1 bash -c 'echo $(hostname) $(hostname -I) $CUDA_VISIBLE_DEVICES'"


def write_script(folder: Path, *lines: str) -> str:
    """A batch script of these lines."""
    path = folder / "script.sh"
    path.write_text("\n".join(("#!/bin/bash", *lines)))
    return str(path)


def test_a_job_on_two_nodes_finds_two_names_addresses_and_gpus_of_each(cluster, tmp_path):
    script = write_script(tmp_path, WHO_AND_WHERE)
    job_id = cluster.submit("--nodes=2", "--gres=gpu:2", "--exclusive", "--output=log", script, cwd=tmp_path)
    cluster.wait_for(job_id, "COMPLETED")
    lines = sorted((tmp_path / "log").read_text().splitlines())
    assert lines == ["node1 10.77.0.1 0,1", "node2 10.77.0.2 0,1"]


def test_a_failed_job_is_reported_with_its_state_and_log(cluster, tmp_path):
    script = write_script(tmp_path, "echo out of luck", "exit 3")
    job_id = cluster.submit("--output=log", script, cwd=tmp_path)
    with pytest.raises(AssertionError, match=r"(?s)not COMPLETED.*JobState=FAILED.*ExitCode=3:0.*out of luck"):
        cluster.wait_for(job_id, "COMPLETED")


def test_a_requeued_job_starts_again_at_once_and_leaves_no_process(cluster, tmp_path):
    script = write_script(tmp_path, 'echo life ${SLURM_RESTART_COUNT:-0}; srun sleep "${SLURM_RESTART_COUNT:-600}"')
    job_id = cluster.submit("--output=log", "--open-mode=append", script, cwd=tmp_path)
    assert poll(lambda: "sleep 600" in str(cluster.list_processes()), timeout=60)
    cluster.requeue(job_id)
    cluster.start_now(job_id)
    cluster.wait_for(job_id, "COMPLETED")
    assert [line for line in (tmp_path / "log").read_text().splitlines() if "life" in line] == ["life 0", "life 1"]
    cluster.wait_until_idle()
    assert cluster.list_processes() == {}


def test_a_crashed_node_is_noticed_and_its_job_goes_on_elsewhere(cluster, tmp_path):
    script = write_script(tmp_path, 'srun sleep "${SLURM_RESTART_COUNT:-600}"')
    job_id = cluster.submit("--nodes=2", "--output=log", script, cwd=tmp_path)
    assert poll(
        lambda: all("sleep 600" in str(cluster.nodes[name].list_processes()) for name in ("node1", "node2")), timeout=60
    )
    cluster.crash_node("node2")
    job = cluster.wait_for(job_id, "COMPLETED")
    assert (job["Restarts"], job["NodeList"]) == ("1", "node[1,3]")
    cluster.start_node("node2")
    cluster.wait_until_idle()
    assert cluster.list_processes() == {}


@pytest.mark.parametrize(
    ("names", "known"), [("own", {"node1": "127.0.1.1", "node2": ""}), ("nowhere", {"node1": "", "node2": ""})]
)
def test_nodes_work_together_that_do_not_know_each_others_names(needs_slurm, tmp_path, names, known):
    lookups = " ".join(f"{node}=$(getent hosts {node} | cut -d' ' -f1)" for node in known)
    script = write_script(tmp_path, f"srun --nodes=2 bash -c 'echo $(hostname)' >names; echo {lookups} >lookups")
    with Cluster(num_nodes=2, names=names) as cluster:
        cluster.wait_for(cluster.submit("--nodes=2", script, cwd=tmp_path), "COMPLETED")
    assert sorted((tmp_path / "names").read_text().split()) == ["node1", "node2"]
    assert (tmp_path / "lookups").read_text().split() == [f"{node}={address}" for node, address in known.items()]


def test_ended_jobs_are_listed_with_accounting(needs_slurm, tmp_path):
    with Cluster(num_nodes=1, accounting=True) as cluster:
        job_id = cluster.submit("--wrap=exit 0", cwd=tmp_path)
        cluster.wait_for(job_id, "COMPLETED")
        listed = cluster.run("sacct", "--completion", "--noheader", "--parsable2", "--format=jobid,state").stdout
    assert listed.split() == [f"{job_id}|COMPLETED"]


START_AND_WAIT = """
import time
from cluster import Cluster
cluster = Cluster(num_nodes=1)
cluster.submit("--wrap=sleep 600")
print(cluster.folder, flush=True)
time.sleep(600)
"""


def test_nothing_outlives_killed_tests_and_the_next_cluster_sweeps_up(needs_slurm, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", START_AND_WAIT]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as tests:
        folder = tests.stdout.readline().strip()
        assert f"{folder}/munge/key" in list_command_lines()
        tests.kill()
    assert poll(lambda: folder not in list_command_lines(), timeout=10)
    with Cluster(num_nodes=1):
        assert not Path(folder).exists()


def list_command_lines() -> str:
    """Command lines of all processes of this machine."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
