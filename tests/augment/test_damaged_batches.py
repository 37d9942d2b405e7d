"""A picture that cannot be decoded is named and stops the run, or is left out alone, whatever else is in its batch."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from augment_sets import (
    BOXES,
    COLORFUL,
    CROP,
    SIDE,
    Setting,
    build_evaluation,
    build_train,
    copy_set,
    harm,
    hash_pictures,
    overwrite,
    pack_set,
    paint,
    to_jpeg,
)

from pipeline.artifacts import ShardSet
from pipeline.augment.draws import TrainSampler
from pipeline.config import AugmentConfig
from pipeline.errors import RunError
from pipeline.options import LoadingConfig

SKIP, STOP = (LoadingConfig(num_threads=2, on_damaged=choice) for choice in ("skip", "stop"))
NUM_TRAIN, NUM_VAL, BATCH_SIZE, STEPS_PER_EPOCH = 48, 23, 8, 6
ADVICE = "see `alexnet preprocess verify` and `repair`, or go on without such pictures by --on-damaged skip"


@pytest.fixture(scope="module")
def sound_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardSet]:
    return {encoding: pack_set(tmp_path_factory.mktemp(encoding), encoding=encoding) for encoding in ("jpeg", "png")}


@pytest.fixture(scope="module")
def sound_set(sound_sets) -> ShardSet:
    return sound_sets["jpeg"]


def select_at(sampler: TrainSampler, places: dict[int, tuple[int, ...]]) -> set[int]:
    """Positions of the pictures at these places of these steps."""
    return {int(sampler.select(step)[place]) for step, chosen in places.items() for place in chosen}


CASES = {
    "one": {2: (3,)},
    "several in a batch": {2: (0, 4, 7)},
    "the first and the last batch": {0: (0,), 5: (7,)},
    "two batches in a row": {1: (1, 6), 2: (5,)},
    "every batch": {step: (step,) for step in range(6)},
    "all but one of a batch": {4: (0, 1, 2, 3, 4, 5, 6)},
}


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("config", [COLORFUL, BOXES], ids=["colour", "boxes"])
def test_training_leaves_out_just_the_damaged(sound_sets, tmp_path, capsys, encoding, name, config):
    setting = Setting(config=config, loading=SKIP)
    sound = build_train(sound_sets[encoding], setting)
    shard_set = copy_set(sound_sets[encoding], tmp_path / "set")
    damaged = select_at(sound.sampler, CASES[name])
    places = harm(shard_set, "train", damaged)
    capsys.readouterr()
    loader = build_train(shard_set, setting)
    num_steps = 2 * STEPS_PER_EPOCH  # in the second epoch they are known
    for batch, whole in zip(loader.run(0, num_steps), sound.run(0, num_steps), strict=True):
        kept = np.flatnonzero(~np.isin(whole.positions, list(damaged)))
        assert batch.positions.tolist() == whole.positions[kept].tolist()
        assert batch.labels.tolist() == whole.labels[kept].tolist()
        assert torch.equal(batch.images, whole.images[kept])
        assert (batch.num_skipped, whole.num_skipped) == (BATCH_SIZE - len(kept), 0)
    assert set(loader.damage.found) == damaged
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(damaged)
    for place in places:
        (line,) = [line for line in said if place in line]
        assert re.fullmatch(rf"augment: {re.escape(place)} cannot be decoded \(.+\): left out", line)
        assert "0x" not in line  # no memory address: the sentence is the same at any start


def test_a_run_that_starts_at_a_damaged_batch_goes_on_as_one_that_came_there(sound_set, tmp_path):
    setting = Setting(loading=SKIP)
    shard_set = copy_set(sound_set, tmp_path / "set")
    harm(shard_set, "train", select_at(build_train(sound_set, setting).sampler, CASES["two batches in a row"]))
    loader = build_train(shard_set, setting)
    whole = [hash_pictures([batch]) for batch in loader.run(0, 9)]
    for first in (1, 2, 3, 8):
        assert [hash_pictures([batch]) for batch in build_train(shard_set, setting).run(first, 9)] == whole[first:]
        left = build_train(shard_set, setting)
        next(left.run(0, 9))  # with a damaged batch on its way that nobody will ask for
        assert [hash_pictures([batch]) for batch in left.run(first, 9)] == whole[first:]


def test_a_rank_without_damage_is_not_touched(sound_set, tmp_path, capsys):
    ranks = [Setting(rank=rank, world_size=2, loading=SKIP) for rank in range(2)]
    shard_set = copy_set(sound_set, tmp_path / "set")
    damaged = select_at(build_train(sound_set, ranks[0]).sampler, {1: (2,)})
    harm(shard_set, "train", damaged)
    hurt, untouched = (build_train(shard_set, setting) for setting in ranks)
    expected = list(build_train(sound_set, ranks[1]).run(0, STEPS_PER_EPOCH))
    capsys.readouterr()
    for batch, whole in zip(untouched.run(0, STEPS_PER_EPOCH), expected, strict=True):
        assert torch.equal(batch.images, whole.images)
        assert batch.num_skipped == 0
    assert untouched.damage.found == {}
    assert not capsys.readouterr().err
    assert [batch.num_skipped for batch in hurt.run(0, STEPS_PER_EPOCH)] == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("step", [0, 3])
def test_a_batch_of_nothing_but_damaged_pictures_is_empty(sound_set, tmp_path, step):
    setting = Setting(loading=SKIP)
    sound = build_train(sound_set, setting)
    shard_set = copy_set(sound_set, tmp_path / "set")
    harm(shard_set, "train", sound.sampler.select(step))
    loader = build_train(shard_set, setting)
    expected = list(sound.run(0, STEPS_PER_EPOCH))
    for _ in range(2):
        batches = list(loader.run(0, STEPS_PER_EPOCH))
        empty = batches.pop(step)
        assert (empty.images.shape, empty.images.dtype) == ((0, 3, CROP, CROP), torch.float32)
        assert (len(empty.labels), len(empty.positions), empty.num_skipped) == (0, 0, BATCH_SIZE)
        for batch, whole in zip(batches, expected[:step] + expected[step + 1 :], strict=True):
            assert torch.equal(batch.images, whole.images)


def test_what_is_left_out_depends_on_the_patch_and_not_on_ranks_or_restarts(tmp_path):
    # A CPU decodes no more than the patch, so a picture without its lower half is sound where that is not asked for.
    shard_set = pack_set(tmp_path, num_train=16, num_val=1, pixels=256)
    for position in range(0, 16, 2):
        size = len(shard_set.open_split("train").read(position))
        overwrite(shard_set, "train", position, bytes(size // 2), skip=size // 2)
    config = AugmentConfig(crop_pixels=64, num_offsets=193)

    def load(first: int, world_size: int) -> set[tuple[int, int]]:
        ranks = [
            Setting(config=config, batch_size=8, rank=rank, world_size=world_size, loading=SKIP)
            for rank in range(world_size)
        ]
        return {
            (step, position)
            for setting in ranks
            for step, batch in enumerate(build_train(shard_set, setting).run(first, 12), first)
            for position in batch.positions.tolist()
        }

    alone = load(0, 1)
    times = [sum(position == one for _, one in alone) for position in range(16)]
    assert times[1::2] == [6] * 8
    assert any(0 < count < 6 for count in times[::2])
    assert load(0, 2) == load(0, 4) == alone
    assert load(5, 1) == load(5, 2) == {(step, position) for step, position in alone if step >= 5}


EVALUATION_CASES = {
    "one": (7,),
    "several in a batch": (5, 6, 9),
    "the first batch": (0, 1, 2, 3, 4),
    "two batches in a row": (4, 5, 6),
    "the last batch": (20, 21, 22),
    "the first and the last": (0, 22),
    "all": tuple(range(NUM_VAL)),
}


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
@pytest.mark.parametrize("views", ["center", "ten"])
@pytest.mark.parametrize("name", EVALUATION_CASES)
def test_evaluation_meets_everything_else_once_run_after_run(sound_sets, tmp_path, capsys, encoding, views, name):
    setting = Setting(batch_size=5, loading=SKIP)
    expected = hash_pictures(build_evaluation(sound_sets[encoding], setting, views).run())
    assert len(expected) == NUM_VAL
    shard_set = copy_set(sound_sets[encoding], tmp_path / "set")
    damaged = EVALUATION_CASES[name]
    harm(shard_set, "val", damaged)
    capsys.readouterr()
    loader = build_evaluation(shard_set, setting, views)
    for _ in range(2):
        assert hash_pictures(loader.run()) == {key: expected[key] for key in expected if key not in damaged}
        assert len(loader) == -(-(NUM_VAL - len(damaged)) // 5)
        assert sorted(loader.damage.found) == list(damaged)
    assert len(capsys.readouterr().err.splitlines()) == len(damaged)


def test_ranks_leave_out_their_own_and_meet_all_else_once(sound_set, tmp_path):
    setting = Setting(batch_size=3, loading=SKIP)
    expected = hash_pictures(build_evaluation(sound_set, setting).run())
    shard_set = copy_set(sound_set, tmp_path / "set")
    harm(shard_set, "val", (1, 2, 4, 22))
    ranks = [build_evaluation(shard_set, replace(setting, rank=rank, world_size=3)) for rank in range(3)]
    found = hash_pictures(batch for loader in ranks for batch in loader.run())
    assert found == {key: expected[key] for key in expected if key not in (1, 2, 4, 22)}
    assert [sorted(loader.damage.found) for loader in ranks] == [[], [1, 4, 22], [2]]


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_stop_names_shard_offset_and_key_in_one_sentence(sound_sets, tmp_path, encoding, split):
    shard_set = copy_set(sound_sets[encoding], tmp_path / "set")
    (place,) = harm(shard_set, split, [17])
    setting = Setting(loading=STOP)
    loader = build_train(shard_set, setting) if split == "train" else build_evaluation(shard_set, setting)
    assert re.fullmatch(rf".*/set/{split}/{split}-000001\.tar:\d+:[ab]/{split}_\d+", place)
    sentence = rf"^{re.escape(place)} cannot be decoded \([^()\n]+\), so the shard was damaged .*: {re.escape(ADVICE)}$"
    for _ in range(2):
        with pytest.raises(RunError, match=sentence):
            list(loader.run(0, STEPS_PER_EPOCH) if split == "train" else loader.run())
    assert loader.damage.found == {}


def test_a_picture_that_is_smaller_than_the_others_is_damaged(sound_set, tmp_path):
    setting = Setting(loading=SKIP)
    shard_set = copy_set(sound_set, tmp_path / "set")
    room = len(shard_set.open_split("train").read(9))
    place = overwrite(shard_set, "train", 9, to_jpeg(paint(CROP // 2, 1), quality=50).ljust(room, b"\0"))
    loader = build_train(shard_set, setting)
    assert sum(batch.num_skipped for batch in loader.run(0, STEPS_PER_EPOCH)) == 1
    with pytest.raises(RunError, match=rf"{re.escape(place)} .*{CROP // 2}x{CROP // 2}.*{SIDE}x{SIDE}"):
        list(build_train(shard_set, Setting(loading=STOP)).run(0, STEPS_PER_EPOCH))


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
@pytest.mark.parametrize("choice", [SKIP, STOP], ids=["skip", "stop"])
def test_a_shard_cut_short_while_in_use_is_an_error_and_not_the_end_of_the_process(tmp_path, encoding, choice):
    shard_set = pack_set(tmp_path, num_train=16, encoding=encoding)
    setting = Setting(loading=choice)
    train, evaluation = build_train(shard_set, setting), build_evaluation(shard_set, setting)
    next(train.run(0, 6))
    next(evaluation.run())
    for split in ("train", "val"):
        shard = shard_set.path / split / f"{split}-000001.tar"
        os.truncate(shard, shard.stat().st_size // 2)
    for loader, run in ((train, lambda: train.run(0, 6)), (evaluation, evaluation.run)):
        with pytest.raises(RunError, match=r"-000001\.tar:\d+:\S+ is cut short, so the shard changed while in use: re"):
            list(run())
        assert loader.damage.found == {}


LARGE_BATCHES = """
import sys
from pathlib import Path
from augment_sets import Setting, build_evaluation, build_train
from pipeline.artifacts import read_shard_set
from pipeline.config import AugmentConfig
from pipeline.options import LoadingConfig

setting = Setting(config=AugmentConfig(), batch_size=96, loading=LoadingConfig(num_threads=2, on_damaged="skip"))
shard_set = read_shard_set(Path(sys.argv[1]))
for _ in range(3):
    print([batch.num_skipped for batch in build_train(shard_set, setting).run(0, 2)])
print(sum(len(batch.positions) for batch in build_evaluation(shard_set, setting, "ten").run()))
"""


def test_damaged_headers_amid_a_large_batch_do_not_end_the_process(tmp_path):
    # DALI 2.4 crashes where its decoder meets a bad header, or a patch beyond the picture, while its threads decode.
    shard_set = pack_set(tmp_path, num_train=96, num_val=50, pixels=256)
    for split in ("train", "val"):
        small = to_jpeg(paint(100, 1)).ljust(len(shard_set.open_split(split).read(40)), b"\0")
        overwrite(shard_set, split, 40, small)
        harm(shard_set, split, [30])
    ended = subprocess.run(
        [sys.executable, "-c", LARGE_BATCHES, str(shard_set.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), *sys.path))},
    )
    assert (ended.returncode, ended.stdout.split("\n")) == (0, ["[2, 2]"] * 3 + ["48", ""]), ended.stderr
