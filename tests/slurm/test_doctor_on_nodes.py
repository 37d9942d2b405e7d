"""The doctor on the nodes of a real Slurm, and on its login node."""

import json
import sys

import jobs
import pytest
import torch

pytestmark = pytest.mark.slurm

LOOK_AT_SLURM = """
from pipeline.artifacts import to_json
from pipeline.launch.doctor.slurm import look_at_slurm
from pipeline.options import DoctorConfig
print(to_json(list(look_at_slurm(DoctorConfig()))).decode())
"""
ON_CPUS = ("--gres=none", "--cpus-per-task=2")
QUICK = {"RANKS_PER_NODE": "1", "OMP_NUM_THREADS": "1"}


def look_from_login_node(cluster, folder, site):
    """What the doctor finds of Slurm there, by subject."""
    env = jobs.choose_environment(folder)
    (folder / "site.env").write_text(site)
    said = cluster.run(sys.executable, "-c", LOOK_AT_SLURM, env=env, cwd=jobs.REPOSITORY).stdout
    return {finding["subject"]: finding for finding in json.loads(said)}


def test_the_login_node_shows_partitions_and_what_slurm_refuses_of_the_site_file(cluster, tmp_path):
    found = look_from_login_node(cluster, tmp_path, "SBATCH_PARTITION=elsewhere\n")
    assert found["site.env"]["status"] == "ill"
    told = "Slurm refuses `sbatch slurm/train.sbatch`: allocation failure: Invalid partition name specified"
    assert found["site.env"]["found"].endswith(told)
    assert found["Slurm"]["found"].endswith("cluster test")
    assert found["partition main"]["found"].startswith("3 nodes (3 idle) of 64 cores and gpu:fake:2")
    assert found["partition closed"]["status"] == "skipped"


@pytest.mark.parametrize(
    ("site", "status"),
    [("", "well"), ("GPU_TYPE=fake\nGPU_REQUEST=gpus-per-node\n", "well"), ("GPU_TYPE=h100\n", "ill")],
)
def test_gpus_are_asked_for_as_the_site_says(cluster, site, status, tmp_path):
    assert look_from_login_node(cluster, tmp_path, site)["site.env"]["status"] == status


def test_two_nodes_meet_and_the_first_speaks_for_both(cluster, shard_set, tmp_path):
    words = ("slurm/doctor.sbatch", "--data", str(shard_set.path), "--out", str(tmp_path))
    job = cluster.submit(
        "--nodes=2",
        *ON_CPUS,
        f"--output={tmp_path}/log",
        *words,
        cwd=jobs.REPOSITORY,
        env=jobs.choose_environment(tmp_path, **QUICK),
    )
    cluster.wait_for(job, "COMPLETED", timeout=300)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line for line in lines if line.startswith("✗")] == []
    (all_reduce,) = [line for line in lines if "all-reduce" in line]
    assert "2 ranks by gloo over eth0 (10.77.0.1)" in all_reduce
    assert f"✓ shared locks     a lock at {tmp_path} is seen on all nodes" in lines
    assert lines[-1] == "doctor: all is well on node1, node2"


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
def test_gpus_that_slurm_gave_and_torch_does_not_see_fail_the_job(cluster, tmp_path):
    words = ("--cpus-per-task=2", f"--output={tmp_path}/log", "slurm/doctor.sbatch")
    job = cluster.submit(*words, cwd=jobs.REPOSITORY, env=jobs.choose_environment(tmp_path, **QUICK))
    cluster.wait_for(job, "FAILED", timeout=300)
    assert "✗ CUDA             CUDA_VISIBLE_DEVICES=0,1" in (tmp_path / "log").read_text()
