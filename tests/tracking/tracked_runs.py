"""Run directories as training leaves them, made without training, and every point that MLflow's database holds."""

import json
import sqlite3
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.artifacts import EvaluationRecord, RunDirectory, RunRecord, Start, write_json
from pipeline.artifacts.shard_set import FORMAT_VERSION, ClassInfo, ColorComponents, ShardSetInfo, SplitInfo
from pipeline.experiments import EXPERIMENTS
from pipeline.options import PackingConfig
from pipeline.tracking import Journal

START = Start(
    command="alexnet train paper --data shards --out run",
    commit="0123456789abcdef",
    dirty=False,
    machine="a processor",
    device="cpu",
    world_size=2,
    tools={"torch": "2.14.1"},
    time=1000.0,
    hosts=("node1", "node2"),
)

Points = Counter[tuple[str, int, float]]


def describe_data() -> ShardSetInfo:
    """What `dataset.json` says of a set of ten pictures."""
    info = ShardSetInfo(
        format_version=FORMAT_VERSION,
        layout="folders",
        complete=False,
        classes=tuple(ClassInfo(id=name, name=name) for name in "abc"),
        splits={"train": SplitInfo(num_images=8, shards=()), "val": SplitInfo(num_images=2, shards=())},
        num_dropped=0,
        packing=PackingConfig(),
        color=ColorComponents(mean=(), covariance=(), eigenvalues=(), eigenvectors=(), standard_deviations=()),
        files={},
        tools={},
    )
    return replace(info, digest=info.compute_digest())


def make_run(path: Path, *, experiment: str = "paper", num_lines: int = 20) -> RunDirectory:
    """A run directory with `num_lines` lines in its journal, seven points each, and a picture."""
    info, config = describe_data(), EXPERIMENTS[experiment].config
    record = RunRecord(
        id=uuid.uuid4().hex,
        experiment=experiment,
        status="as registered",
        config=config,
        data="shards",
        data_digest=info.digest,
        data_layout=info.layout,
        data_complete=False,
        data_packing=info.packing,
        num_dropped_images=0,
        num_train_images=8,
        num_val_images=2,
        starts=(START,),
    )
    run = RunDirectory(path)
    write_json(run.config, record)
    write_json(run.dataset, info)
    run.figures.mkdir()
    Image.new("RGB", (3, 3)).save(run.figures / "conv1.png")
    append_lines(run, num_lines)
    return run


def append_lines(run: RunDirectory, num_lines: int, *, first: int = 1) -> None:
    """Append lines for the steps from `first` on."""
    journal = Journal(run.journal)
    for step in range(first, first + num_lines):
        names = ("train/loss", "train/top1_error", "optim/lr", "perf/images_per_second", "perf/data_wait_fraction")
        journal.append(step=step, epoch=step / 10, metrics=dict.fromkeys((*names, "val/top1_error"), step + 0.125))


def add_start(run: RunDirectory, **changes) -> None:
    """Note another start, as a resumed training does."""
    record = run.read_record()
    write_json(run.config, replace(record, starts=(*record.starts, replace(START, **changes))))


def add_evaluation(run: RunDirectory, step: int, num_errors: int) -> None:
    """Leave what `alexnet evaluate` leaves of the checkpoint of a step: `num_errors` of ten."""
    record = EvaluationRecord(
        split="val",
        views="center",
        step=step,
        epoch=1,
        num_images=10,
        num_top1_errors=num_errors,
        num_top5_errors=0,
        log_loss=1.0,
        data_digest=run.read_record().data_digest,
        commit="0123456789abcdef",
        dirty=False,
    )
    write_json(run.predictions / f"val-center-step-{step}.json", record)
    np.savez(run.predictions / f"val-center-step-{step}.npz", probabilities=np.full((10, 3), num_errors, np.float32))


def read_run_id(run: RunDirectory) -> str:
    """Id of MLflow's run, where there is one server only."""
    (delivery,) = json.loads((run.path / "mlflow.json").read_text())
    return delivery["run_id"]


def read_points(database: Path, run_id: str) -> Points:
    """How often MLflow's database holds each point of a run, asked without MLflow."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        found = connection.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", (run_id,)).fetchall()
    return Counter(found)


def read_journal_points(run: RunDirectory) -> Points:
    """What MLflow has to hold: each step of a metric of the journal once, the first; `epoch` beside every metric."""
    points: dict[tuple[str, int], float] = {}
    for entry in Journal(run.journal).read():
        for key, value in (entry.metrics | {"epoch": entry.epoch}).items():
            points.setdefault((key, entry.step), value)
    return Counter((key, step, value) for (key, step), value in points.items())


def count_rows(database: Path, table: str) -> int:
    """Rows of one of MLflow's tables."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        (count,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608 - of a test
    return count
