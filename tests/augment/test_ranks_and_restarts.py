"""The pixels of each picture of an epoch, by SHA-256: the same at 1, 2 and 3 ranks and after any restart."""

from dataclasses import replace

import numpy as np
import pytest
from augment_sets import BOXES, COLORFUL, Setting, build_evaluation, build_train, hash_pictures, pack_set

from pipeline.artifacts import ShardSet
from pipeline.errors import InputError

CONFIGS = {"colour, shared crops": COLORFUL, "boxes": BOXES}
BATCH_SIZE, STEPS_PER_EPOCH = 12, 4


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """48 pictures to train and 23 to validate, in several shards."""
    return pack_set(tmp_path_factory.mktemp("small"))


@pytest.fixture(params=CONFIGS)
def setting(request: pytest.FixtureRequest) -> Setting:
    return Setting(config=CONFIGS[request.param], batch_size=BATCH_SIZE)


def hash_steps(shard_set: ShardSet, setting: Setting, first: int, end: int, *, world_size: int = 1) -> dict[int, str]:
    """Hashes of the pictures of some steps of one epoch, over all ranks."""
    ranks = [build_train(shard_set, replace(setting, rank=rank, world_size=world_size)) for rank in range(world_size)]
    return hash_pictures(batch for loader in ranks for batch in loader.run(first, end))


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_has_the_same_pixels_at_any_number_of_ranks(small_set, setting, epoch):
    steps = epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH
    alone = hash_steps(small_set, setting, *steps)
    assert sorted(alone) == list(range(48))
    assert len(set(alone.values())) == 48
    for world_size in (2, 3):
        assert hash_steps(small_set, setting, *steps, world_size=world_size) == alone


def test_epochs_and_seeds_have_pixels_of_their_own(small_set, setting):
    alone = hash_steps(small_set, setting, 0, STEPS_PER_EPOCH)
    next_epoch = hash_steps(small_set, setting, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH)
    other_seed = hash_steps(small_set, replace(setting, seed=6), 0, STEPS_PER_EPOCH)
    for other in (next_epoch, other_seed):
        assert sum(other[position] == alone[position] for position in alone) < 4  # a few of all crops repeat


def test_a_restart_anywhere_goes_on_with_the_same_pixels_at_any_number_of_ranks(small_set, setting):
    generator = np.random.default_rng(11)
    whole = [hash_steps(small_set, setting, step, step + 1) for step in range(2 * STEPS_PER_EPOCH)]
    for before, after in ((1, 1), (2, 3), (3, 2), (2, 1)):
        restart = int(generator.integers(1, 2 * STEPS_PER_EPOCH))
        for first, end, world_size in ((0, restart, before), (restart, 2 * STEPS_PER_EPOCH, after)):
            loaders = [
                build_train(small_set, replace(setting, rank=rank, world_size=world_size)) for rank in range(world_size)
            ]
            for step, *parts in zip(range(first, end), *(loader.run(first, end) for loader in loaders), strict=True):
                assert hash_pictures(parts) == whole[step]


@pytest.mark.parametrize("views", ["center", "ten"])
def test_an_evaluation_of_23_pictures_has_the_same_pixels_at_any_number_of_ranks(small_set, views):
    setting = Setting(batch_size=5)
    alone = hash_pictures(build_evaluation(small_set, setting, views).run())
    assert sorted(alone) == list(range(23))
    for world_size in (2, 3):
        loaders = [
            build_evaluation(small_set, replace(setting, rank=rank, world_size=world_size), views)
            for rank in range(world_size)
        ]
        assert sum(len(loader) for loader in loaders) == {2: 6, 3: 6}[world_size]
        assert hash_pictures(batch for loader in loaders for batch in loader.run()) == alone


def test_an_evaluation_of_one_picture_on_two_ranks_meets_it_once(tmp_path):
    shard_set = pack_set(tmp_path, num_train=9, num_val=1)
    ranks = [build_evaluation(shard_set, Setting(rank=rank, world_size=2)) for rank in range(2)]
    for _ in range(2):
        found = [[batch.positions.tolist() for batch in loader.run()] for loader in ranks]
        assert found == [[[0]], []]


def test_a_set_of_one_picture_more_than_a_batch_leaves_out_another_one_each_epoch(tmp_path):
    shard_set = pack_set(tmp_path, num_train=9, num_val=2)
    loader = build_train(shard_set, Setting(batch_size=8))
    assert loader.steps_per_epoch == 1
    batches = list(loader.run(0, 40))
    left_out = [set(range(9)) - set(batch.positions.tolist()) for batch in batches]
    assert [len(missing) for missing in left_out] == [1] * 40
    assert set.union(*left_out) == set(range(9))
    with pytest.raises(InputError, match="has 9 training pictures, fewer than one batch of --global-batch-size 10"):
        build_train(shard_set, Setting(batch_size=10))


def test_a_set_of_one_batch_is_one_step(tmp_path):
    loader = build_train(pack_set(tmp_path, num_train=8, num_val=2), Setting(batch_size=8))
    assert loader.steps_per_epoch == 1
    assert [sorted(batch.positions.tolist()) for batch in loader.run(0, 3)] == [list(range(8))] * 3
