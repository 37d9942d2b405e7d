"""Real pictures, shards and runs that the tests share; made once a session, below pytest's own folder."""

import dataclasses
import io
import multiprocessing
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Browser, start_browser
from commands import NUM_CLASSES, NUM_TRAIN, NUM_VAL, SMALL_FLAGS, paint_picture, run_command

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.config import ExperimentConfig
from pipeline.experiments import EXPERIMENTS
from pipeline.options import PreprocessConfig
from pipeline.preprocess.stage import preprocess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="torch sees no GPU here; on a machine with one: make test-gpu"))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number, for what gzip makes holds the time, and processes would collect other tests."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from file_by_file import FileByFile  # here, for where there is a GPU there need not be xdist

    return FileByFile(config, log)


def pytest_collection_finish() -> None:
    """Start the process that those of the tests are forked from, with all that they import."""
    users = [
        module
        for name in ("ranks", "small_sets", "spreading", "test_loader_peers")
        if (module := sys.modules.get(name))
    ]
    if users:
        multiprocessing.set_forkserver_preload([name for module in users for name in module.PRELOAD])
        forkserver.ensure_running()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `train/CLASS/NAME.JPEG` and `val/…` of pictures in many sizes. Read only."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(7)
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        for label in range(NUM_CLASSES):
            folder = root / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            for number in range(count):
                width, height = generator.integers(200, 420, 2).tolist()
                paint_picture(generator, width, height).save(folder / f"{split}_{number}.JPEG", quality=90)
    return root


@pytest.fixture(scope="session")
def shard_set(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The shard set made of `pictures`, in several shards. Read only."""
    out = tmp_path_factory.mktemp("shards") / "set"
    preprocess(PreprocessConfig(source=pictures, out=out, images_per_shard=20, workers=2))
    return read_shard_set(out)


@pytest.fixture(scope="session")
def few_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures of three classes, 18 to train and 6 to validate; one is in CMYK, one is no picture. Read only."""
    root = tmp_path_factory.mktemp("few_pictures")
    generator = np.random.default_rng(13)
    for split, count in (("train", 6), ("val", 2)):
        for name in "abc":
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                width, height = generator.integers(40, 90, 2).tolist()
                paint_picture(generator, width, height).save(root / split / name / f"{number}.JPEG")
    paint_picture(generator, 60, 50).convert("CMYK").save(root / "train" / "b" / "1.JPEG")
    (root / "train" / "c" / "5.JPEG").write_text("moved permanently")
    return root


@pytest.fixture(scope="session")
def few_set(few_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The shard set made of `few_pictures`: six shards of 32x32 pictures. Read only."""
    out = tmp_path_factory.mktemp("few_set") / "set"
    preprocess(
        PreprocessConfig(source=few_pictures, out=out, pixels=32, images_per_shard=5, max_dropped=0.1, workers=2)
    )
    return read_shard_set(out)


@pytest.fixture(scope="session")
def slow_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which each takes a while, so that a test finds the command at work: 24 and 8. Read only."""
    root = tmp_path_factory.mktemp("slow_pictures")
    buffer = io.BytesIO()
    paint_picture(np.random.default_rng(17), 1400, 1400).save(buffer, "PNG", compress_level=1)
    for split, count in (("train", 12), ("val", 4)):
        for name in "ab":
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                (root / split / name / f"{number}.png").write_bytes(buffer.getvalue())
    return root


@pytest.fixture(scope="session")
def slow_set(slow_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The shard set made of `slow_pictures`: eight shards of 32x32 pictures. Read only."""
    out = tmp_path_factory.mktemp("slow_set") / "set"
    preprocess(PreprocessConfig(source=slow_pictures, out=out, pixels=32, images_per_shard=4, workers=2))
    return read_shard_set(out)


@pytest.fixture(scope="session")
def small_config() -> ExperimentConfig:
    """`source-2012` so narrow that a step takes a moment: four classes, batches of 8, two epochs of six steps."""
    config = EXPERIMENTS["source-2012"].config
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, width=0.125, num_classes=NUM_CLASSES),
        schedule=dataclasses.replace(config.schedule, epochs=2),
        global_batch_size=8,
    )


@pytest.fixture(scope="session")
def finished_run(shard_set: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `SMALL_FLAGS`, trained and evaluated by two processes under torchrun, MLflow beside it. Read only."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    train = ("train", "source-2012", "--data", str(shard_set.path), "--out", str(run), "--device", "cpu", *SMALL_FLAGS)
    for words in (train, ("evaluate", str(run), "--device", "cpu")):
        ended = run_command(*words, processes=2)
        assert ended.returncode == 0, ended.stderr
    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window and with no network but this machine; whoever opens a page finds it as new."""
    with start_browser() as browser:
        yield browser
