"""Which picture when: each once an epoch, and the same global batch at any number of ranks."""

import numpy as np
import pytest

from pipeline.augment.order import permute_epoch, select_evaluation, select_train_batch, spread_positions


def test_an_epoch_meets_each_picture_once_in_an_order_of_its_own():
    orders = [permute_epoch(101, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(101))
    assert len({tuple(order.tolist()) for order in orders}) == 6


def test_the_same_seed_and_epoch_give_the_same_order():
    np.testing.assert_array_equal(permute_epoch(500, seed=3, epoch=7), permute_epoch(500, seed=3, epoch=7))


@pytest.mark.parametrize("step", [0, 1, 5])
def test_parts_of_one_two_and_four_ranks_join_to_the_same_global_batch(step):
    order = permute_epoch(50, seed=0, epoch=0)
    for world_size in (1, 2, 4):
        parts = [
            select_train_batch(order, step=step, batch_size_per_rank=8 // world_size, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        assert [len(part) for part in parts] == [8 // world_size] * world_size
        np.testing.assert_array_equal(np.concatenate(parts), order[8 * step : 8 * step + 8])


@pytest.mark.parametrize(
    ("num_images", "world_size", "sizes"),
    [(23, 3, [8, 8, 7]), (1, 2, [1, 0]), (24, 3, [8, 8, 8]), (5, 1, [5])],
)
def test_evaluation_shares_meet_each_picture_exactly_once(num_images, world_size, sizes):
    shares = [select_evaluation(num_images, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [len(share) for share in shares] == sizes
    assert sorted(np.concatenate(shares).tolist()) == list(range(num_images))


@pytest.mark.parametrize(
    ("num_images", "count", "positions"),
    [
        (10, 5, [1, 3, 5, 7, 9]),
        (14, 8, [0, 2, 4, 6, 7, 9, 11, 13]),
        (7, 1, [3]),
        (3, 3, [0, 1, 2]),
        (2, 8, [0, 1]),
        (4, 0, []),
    ],
)
def test_pictures_that_stand_for_a_split_are_the_middle_ones_of_its_parts(num_images, count, positions):
    assert spread_positions(num_images, count).tolist() == positions
