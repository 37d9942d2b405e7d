"""The jobs of these tests: small pictures, a small network of Fig. 1, and what is left of a run."""

import pickle
import re
import signal
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from cluster import Cluster, poll

from pipeline.artifacts import RunDirectory
from pipeline.checkpoint import find_checkpoints, read_checkpoint
from pipeline.tracking import Journal

REPOSITORY = Path(__file__).parents[2]
NUM_PER_BATCH, GLOBAL_BATCH_SIZE, NUM_EPOCHS = 16, 8, 10
"""Pictures in each of CIFAR-10's six files, of which five are for training: 10 steps an epoch."""
NUM_STEPS = NUM_EPOCHS * 5 * NUM_PER_BATCH // GLOBAL_BATCH_SIZE
PREPROCESS_FLAGS = ("--pixels=32", "--encoding=png", "--images-per-shard=10", "--allow-partial")
TRAIN_FLAGS = (
    *("--device=cpu", "--num-threads=1"),
    *(f"--global-batch-size={GLOBAL_BATCH_SIZE}", f"--schedule.epochs={NUM_EPOCHS}"),
    *("--log-every=2", "--checkpoint-every=7"),
)
TWO_BY_TWO = ("--nodes=2", "--gres=gpu:2")
"""Options of sbatch for two nodes with two ranks each."""


def write_cifar10(folder: Path) -> Path:
    """A few pictures in the files of CIFAR-10's Python version."""
    generator = np.random.default_rng(5)
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        rows = generator.integers(0, 256, (NUM_PER_BATCH, 3072), dtype=np.uint8)
        labels = generator.integers(0, 10, NUM_PER_BATCH).tolist()
        names = [f"{name}_{number}.png" for number in range(NUM_PER_BATCH)]
        (batches / name).write_bytes(pickle.dumps({b"data": rows, b"labels": labels, b"filenames": names}))
    return folder


def choose_environment(folder: Path, **variables: object) -> dict[str, str]:
    """Variables of a job of this checkout with the Python of the tests, whatever this machine's site.env says."""
    site = folder / "site.env"
    site.touch()
    chosen = {"ALEXNET_HOME": REPOSITORY, "ALEXNET_SITE": site, "PYTHON_ENV": sys.prefix, **variables}
    return {name: str(value) for name, value in chosen.items()}


def submit(cluster: Cluster, stage: str, *words: object, cwd: Path, options: tuple[str, ...] = (), **variables) -> str:
    """The id of the job that runs `alexnet STAGE WORDS`, whose log goes to `cwd`."""
    script = str(REPOSITORY / "slurm" / f"{stage}.sbatch")
    return cluster.submit(*options, script, *map(str, words), cwd=cwd, env=choose_environment(cwd, **variables))


def submit_train(cluster: Cluster, shards: Path, run: Path, *, options: tuple[str, ...] = (), **variables) -> str:
    """The id of the job that trains into `run` on two nodes with two ranks each."""
    words = ("fig1-relu", "--data", shards, "--out", run, *TRAIN_FLAGS)
    return submit(cluster, "train", *words, cwd=run.parent, options=(*TWO_BY_TWO, *options), **variables)


def wait_for_step(cluster: Cluster, job_id: str, run: Path, step: int, *, timeout: float = 300) -> None:
    """Wait until the journal of a job's run holds a step."""

    def is_there() -> bool:
        return any(entry.step >= step for entry in Journal(run / "journal.jsonl").read())

    if not poll(is_there, timeout=timeout):
        raise AssertionError(f"step {step} has not come:\n{cluster.describe(job_id)}")


def find_ranks(cluster: Cluster, node: str | None = None) -> list[int]:
    """Process ids of the ranks that train, on one node or on all."""
    running = cluster.nodes[node].list_processes() if node else cluster.list_processes()
    return [number for number, line in running.items() if re.search(r"-m pipeline train ", line)]


def has_pending_term(process: int) -> bool:
    """Whether SIGTERM waits for a stopped process."""
    masks = re.findall(r"^(?:Shd|Sig)Pnd:\t(\w+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in masks)


def assert_same_weights(run: Path, undisturbed: Path) -> None:
    """The last checkpoints of both hold the same bits: network, optimiser, step."""
    found, expected = (read_checkpoint(find_checkpoints(path / "checkpoints")[-1]) for path in (run, undisturbed))
    assert found.step == expected.step == NUM_STEPS
    assert found.model.keys() == expected.model.keys()
    assert all(torch.equal(found.model[name], weights) for name, weights in expected.model.items())
    assert found.optimizer["param_groups"] == expected.optimizer["param_groups"]
    assert found.optimizer["state"].keys() == expected.optimizer["state"].keys()
    for number, state in expected.optimizer["state"].items():
        assert torch.equal(found.optimizer["state"][number]["momentum_buffer"], state["momentum_buffer"])


def read_journal_points(run: Path) -> dict[tuple[str, int], float]:
    """A run's journal: values by metric and step."""
    return {
        (key, entry.step): value
        for entry in Journal(run / "journal.jsonl").read()
        for key, value in (entry.metrics | {"epoch": entry.epoch}).items()
    }


def assert_tracked_once(run: Path, expected: dict[tuple[str, int], float]) -> None:
    """MLflow holds this run and no other, each expected point once and none beside, with its value but for speeds.

    Beside them is the load of the machine, whose every point is there once, too.
    """
    with sqlite3.connect(run.parent / "mlflow.db") as store:
        assert store.execute("select name from runs").fetchall() == [(run.name,)]
        points = store.execute("select key, step, value from metrics").fetchall()
    assert set(Counter((key, step) for key, step, _ in points).values()) == {1}
    of_training = [point for point in points if not point[0].startswith("system/")]
    assert {(key, step) for key, step, _ in of_training} == expected.keys()
    for key, step, value in of_training:
        assert key.startswith("perf/") or value == expected[key, step], (key, step)


def assert_undisturbed(cluster: Cluster, run: Path, undisturbed: Path) -> None:
    """A run has ended as if nothing had happened, each start was a world of four, and no process of it is left."""
    assert {start.world_size for start in RunDirectory(run).read_record().starts} == {4}
    assert_same_weights(run, undisturbed)
    points = read_journal_points(undisturbed)
    of_training = {point: value for point, value in points.items() if not re.match(r"val/(center|ten)_", point[0])}
    assert_tracked_once(run, of_training)
    cluster.wait_until_idle()
    assert cluster.list_processes() == {}
