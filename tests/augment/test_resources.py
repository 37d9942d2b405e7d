"""Neither memory nor threads nor open files grow over 50 epochs, measured in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from augment_sets import pack_set

WARM_UP, NUM_EPOCHS = 10, 50
MAX_GROWTH = 4 * 2**20
"""Bytes; one training batch of each epoch that stayed would make 36 MB, one of each evaluation as many."""
MEASURE = f"""
import gc, json, sys
from collections import Counter
from pathlib import Path

import psutil
from augment_sets import Setting, build_evaluation, build_train

from pipeline.artifacts import read_shard_set, shard_set
from pipeline.config import AugmentConfig
from pipeline.options import LoadingConfig

def name_threads():
    return Counter((task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir())

def measure_threads(num_threads):
    before = name_threads()
    setting = Setting(config=config, batch_size=24, loading=LoadingConfig(num_threads=num_threads))
    loader = build_train(shards, setting)
    assert len(list(loader.run(0, 3))) == 3
    return name_threads() - before

shard_set.MAX_OPEN_SHARDS = 3
shards = read_shard_set(Path(sys.argv[1]))
config = AugmentConfig(crop_pixels=56, num_offsets=9)
found = {{"threads": {{}}}}
for num_threads in (1, 4):
    found["threads"][num_threads] = measure_threads(num_threads)
    gc.collect()

setting = Setting(config=config, batch_size=24, loading=LoadingConfig(num_threads=1))
train, evaluation, process = build_train(shards, setting), build_evaluation(shards, setting), psutil.Process()
for name, run in (
    ("train", lambda epoch: train.run(epoch * train.steps_per_epoch, (epoch + 1) * train.steps_per_epoch)),
    ("evaluation", lambda epoch: evaluation.run()),
):
    rows = []
    for epoch in range({NUM_EPOCHS}):
        num_images = sum(len(batch.positions) for batch in run(epoch))
        rows.append((num_images, process.memory_info().rss, process.num_fds(), process.num_threads()))
    found[name] = dict(zip(("images", "bytes", "files", "threads"), zip(*rows)))
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What `MEASURE` prints for 48 and 24 pictures of 64x64 in twelve and six shards, of which three may be open."""
    shard_set = pack_set(
        tmp_path_factory.mktemp(request.param), num_val=24, pixels=64, encoding=request.param, images_per_shard=4
    )
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, str(shard_set.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), *sys.path))},
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(("name", "num_images"), [("train", 48), ("evaluation", 24)])
def test_resident_memory_is_flat(measured, name, num_images):
    assert measured[name]["images"] == [num_images] * NUM_EPOCHS
    sizes = measured[name]["bytes"]
    assert min(sizes[-WARM_UP:]) - max(sizes[:WARM_UP]) < MAX_GROWTH


@pytest.mark.parametrize("name", ["train", "evaluation"])
def test_no_file_and_no_thread_is_left_open(measured, name):
    for resource in ("files", "threads"):
        assert len(set(measured[name][resource][1:])) == 1


def test_as_many_threads_decode_as_were_asked_for(measured):
    for num_threads in (1, 4):
        workers = {thread: count for thread, count in measured["threads"][str(num_threads)].items() if "[TP" in thread}
        assert sorted(thread.split("]")[1] for thread in workers) == [f"[TP{number}" for number in range(num_threads)]
        assert set(workers.values()) == {1}
    few, many = (sum(measured["threads"][num_threads].values()) for num_threads in ("1", "4"))
    assert many - few == 2 * 3  # DALI's executor takes as many again, which wait for the workers
