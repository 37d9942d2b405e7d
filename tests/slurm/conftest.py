"""The cluster that the tests of jobs share, and the chain of jobs that nothing disturbed."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jobs
import pytest
from cluster import Cluster, find_missing


@pytest.fixture(scope="session")
def needs_slurm() -> None:
    """Skip where no cluster can be had, or fail where ALEXNET_REQUIRE_SLURM says that one must be."""
    if missing := find_missing():
        (pytest.fail if os.environ.get("ALEXNET_REQUIRE_SLURM") else pytest.skip)(f"no Slurm cluster: {missing}")


@pytest.fixture(scope="session")
def cluster(needs_slurm: None) -> Iterator[Cluster]:
    """Three nodes with two pretended GPUs each. Whoever crashes a node starts it again."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few pictures as CIFAR-10 has them. Read only."""
    return jobs.write_cifar10(tmp_path_factory.mktemp("cifar10"))


@pytest.fixture(scope="session")
def chain(cluster: Cluster, cifar10: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `alexnet submit reproduce` brought about, undisturbed: `shards`, `run` and `page`. Read only."""
    folder = tmp_path_factory.mktemp("chain")
    paths = ("--source", cifar10, "--data", folder / "shards", "--out", folder / "run", "--results", folder / "page")
    packing = [flag.replace("--", "--preprocess.") for flag in jobs.PREPROCESS_FLAGS]
    words = ("reproduce", "fig1-relu", *paths, "--parts=3", "--nodes=2", *packing, *jobs.TRAIN_FLAGS)
    command = (sys.executable, "-m", "pipeline", "submit", *map(str, words), "--evaluate.device=cpu")
    said = cluster.run(*command, cwd=folder, env=jobs.choose_environment(folder)).stdout
    job_ids = dict(re.findall(r"^submit: (\S+) is job (\d+)", said, re.MULTILINE))
    assert list(job_ids) == ["preprocess", "train", "evaluate", "report"]
    parts = [f"{job_ids['preprocess']}_{part}" for part in range(3)]
    for job_id in (*parts, job_ids["train"], job_ids["evaluate"], job_ids["report"]):
        cluster.wait_for(job_id, "COMPLETED", timeout=400)
    return folder
