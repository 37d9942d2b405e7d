"""The doctor on the nodes of a real Slurm, and on its login node."""

import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
DOCTOR = (sys.executable, "-m", "pipeline", "doctor")
ON_CPUS = ("--gres=none", "--cpus-per-task=2")
QUICK = {"RANKS_PER_NODE": "1", "OMP_NUM_THREADS": "1", "ALEXNET_HOME": str(ROOT), "PYTHON_ENV": str(Path(sys.prefix))}


def test_the_login_node_shows_partitions_how_gpus_are_asked_for_and_what_the_site_file_has_wrong(cluster, tmp_path):
    (tmp_path / "site.env").write_text("SBATCH_PARTITION=elsewhere\n")
    env = {"ALEXNET_SITE": str(tmp_path / "site.env")}
    result = cluster.run(*DOCTOR, "--json", env=env, check=False, timeout=200)
    assert result.returncode == 1
    found = {finding["subject"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert [subject for subject, finding in found.items() if finding["status"] == "ill"] == ["site.env"]
    assert found["site.env"]["found"] == "partition elsewhere is not on this cluster: main, short, closed are"
    assert found["Slurm"]["found"].endswith("cluster test")
    assert found["partition main"]["found"].startswith("3 nodes (3 idle) of 64 cores and gpu:fake:2")
    assert found["partition closed"]["status"] == "skipped"
    assert found["GPU requests"]["found"] == "--gres and --gpus-per-node (select/cons_tres)"


def test_two_nodes_meet_and_the_first_speaks_for_both(cluster, shard_set, tmp_path):
    words = ("slurm/doctor.sbatch", "--data", str(shard_set.path), "--out", str(tmp_path))
    job = cluster.submit("--nodes=2", *ON_CPUS, f"--output={tmp_path}/log", *words, cwd=ROOT, env=QUICK)
    cluster.wait_for(job, "COMPLETED", timeout=300)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line for line in lines if line.startswith("✗")] == []
    (all_reduce,) = [line for line in lines if "all-reduce" in line]
    assert "2 ranks by gloo over eth0 (10.77.0.1)" in all_reduce
    assert f"✓ shared locks     a lock at {tmp_path} is seen on all nodes" in lines
    assert lines[-1] == "doctor: all is well on node1, node2"


def test_gpus_that_slurm_gave_and_torch_does_not_see_fail_the_job(cluster, tmp_path):
    words = ("--cpus-per-task=2", f"--output={tmp_path}/log", "slurm/doctor.sbatch")
    job = cluster.submit(*words, cwd=ROOT, env=QUICK)
    cluster.wait_for(job, "FAILED", timeout=300)
    assert "✗ CUDA             CUDA_VISIBLE_DEVICES=0,1" in (tmp_path / "log").read_text()
