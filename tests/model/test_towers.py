"""Two towers on two devices end as the grouped network on one, and cross where the paper says."""

import pytest
import torch
from spreading import (
    BATCH_SIZE,
    NUM_CLASSES,
    Layout,
    check_equal,
    measure_distance,
    narrow,
    train_alone,
    train_in_processes,
)

from pipeline.distributed import join_world
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.model.towers import check_towers

DOUBLE_BYTES = 8
CROSSING_SIZES = {"conv3": 16 * 3 * 3, "fc6": 16, "fc7": 256, "fc8": 256}
"""Layers that see both towers, and how many activations of a picture they see."""
NUM_WHOLE = NUM_CLASSES * (256 + 1)
"""Parameters of fc8, which both ranks hold."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[dict]:
    """What two ranks with a tower each end with."""
    return train_in_processes(narrow(), Layout(world_size=2, towers=2), tmp_path_factory.mktemp("pair"))


@pytest.mark.distributed
def test_two_towers_end_as_the_grouped_network_on_one_device(pair):
    layout = Layout(world_size=2, towers=2)
    check_equal(pair, train_alone(narrow(), layout), layout)


@pytest.mark.distributed
def test_two_pairs_of_towers_are_data_parallel(tmp_path):
    layout = Layout(world_size=4, towers=2, accumulates=True, channels_last=True)
    config = narrow(inverted_dropout=True)
    check_equal(train_in_processes(config, layout, tmp_path), train_alone(config, layout), layout)


@pytest.mark.distributed
def test_gradients_averaged_as_bfloat16_train_nearly_the_same(tmp_path):
    """Between two pairs, a quarter of the bytes of float64; a gradient is off by up to one part in 256."""
    layout = Layout(world_size=4, towers=2, bfloat16_gradients=True)
    expected = train_alone(narrow(), layout)
    first, *others = train_in_processes(narrow(), layout, tmp_path)
    assert all(torch.equal(rank["model"]["fc6.weight"], first["model"]["fc6.weight"]) for rank in others)
    assert 0 < measure_distance(first["losses"][:10], expected["losses"][:10]) < 0.005
    assert first["sent_bytes"]["all-reduce"] == first["num_own"] * DOUBLE_BYTES / 4


@pytest.mark.distributed
def test_each_rank_holds_half_of_every_layer_but_the_last(pair):
    num_all = sum(weights.numel() for weights in pair[0]["model"].values())
    assert [rank["num_own"] for rank in pair] == [(num_all - NUM_WHOLE) // 2 + NUM_WHOLE] * 2


@pytest.mark.distributed
def test_activations_cross_before_conv3_fc6_fc7_and_fc8_and_nowhere_else(pair):
    for rank in pair:
        assert [name for name in rank["layers"] if "crossing" in name] == [
            f"{name}_crossing" for name in CROSSING_SIZES
        ]
        sizes = [BATCH_SIZE * size // 2 * DOUBLE_BYTES for size in CROSSING_SIZES.values()]
        assert rank["sent_bytes"] == {"all-gather": sum(sizes), "reduce-scatter": sum(sizes[:-1])}


@pytest.mark.parametrize(
    "name", [name for name, experiment in EXPERIMENTS.items() if experiment.config.model.towers == 1]
)
def test_a_network_of_one_tower_is_refused(name):
    with pytest.raises(InputError, match=r"--towers 2: the network has 1 of them .* share the fully connected layers"):
        check_towers(EXPERIMENTS[name].config.model, 2)


def test_three_ranks_do_not_hold_two_towers():
    with pytest.raises(InputError, match="--towers 3: the network has 2 of them"):
        check_towers(EXPERIMENTS["source-2012"].config.model, 3)


@pytest.mark.parametrize(
    ("sharing", "sentence"),
    [
        ({"towers": 2}, "--towers 2 does not divide 1 process: start a multiple of 2 with torchrun"),
        ({"fc_parallel": 4}, "--fc-parallel 4 does not divide 1 process"),
        ({"towers": 0}, "--towers must be positive, found 0"),
        ({"towers": 2, "fc_parallel": 2}, "--towers 2 and --fc-parallel 2 split the same layers: pass one of them"),
    ],
)
def test_ranks_that_cannot_share_are_refused(sharing, sentence):
    with pytest.raises(InputError, match=sentence), join_world("cpu", **sharing):
        pass
