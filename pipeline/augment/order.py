"""Which picture when: functions of (seed, epoch, position) and of nothing else."""

import numpy as np
import numpy.typing as npt


def permute_epoch(num_images: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Order of one epoch: (num_images,) int64 positions in the split, each exactly once."""
    return np.random.default_rng([seed, epoch, 0]).permutation(num_images)


def select_train_batch(
    order: npt.NDArray[np.int64], *, step: int, batch_size_per_rank: int, rank: int, world_size: int
) -> npt.NDArray[np.int64]:
    """A rank's part of one global batch.

    The ranks' parts, joined in order of rank, are the same global batch at any number of ranks.

    Args:
        order: the epoch's permutation.
        step: position of the batch within the epoch, from 0.
        batch_size_per_rank: pictures per rank.
        rank: this rank.
        world_size: number of ranks.

    Returns:
        (batch_size_per_rank,) int64 positions in the split.
    """
    first = (step * world_size + rank) * batch_size_per_rank
    return order[first : first + batch_size_per_rank]


def select_evaluation(num_images: int, *, rank: int, world_size: int) -> npt.NDArray[np.int64]:
    """A rank's share of an evaluation: every `world_size`-th position, so that all ranks meet each picture once."""
    return np.arange(rank, num_images, world_size)


def spread_positions(num_images: int, count: int) -> npt.NDArray[np.int64]:
    """Pictures that stand for a split: the middle one of each of `count` equal parts; all where there are no more.

    Returns:
        (min(count, num_images),) int64 positions, rising.
    """
    count = min(count, num_images)
    return (2 * np.arange(count) + 1) * num_images // max(1, 2 * count)
