"""Fully connected layers shared by ranks: what plain data parallelism computes, with fewer bytes."""

import functools
from collections.abc import Callable

import pytest
from spreading import (
    BATCH_SIZE,
    NUM_CLASSES,
    Layout,
    check_equal,
    narrow,
    train_alone,
    train_in_processes,
)

from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.model.fc_parallel import check_fc_parallel

DOUBLE_BYTES = 8
NUM_CONV_PARAMETERS = 6 * (3 * 121 + 1) + 16 * (3 * 25 + 1) + 24 * (16 * 9 + 1) + 24 * (12 * 9 + 1) + 16 * (12 * 9 + 1)
NUM_INPUTS = 16 + 256 + 256
NUM_OUTPUTS = 256 + 256 + NUM_CLASSES
NUM_PARAMETERS = NUM_CONV_PARAMETERS + 16 * 256 + 256 * 256 + 256 * NUM_CLASSES + NUM_OUTPUTS
PLAIN = Layout(world_size=2)
DAMAGED = Layout(world_size=2, fc_parallel=2, damaged=True)
SHARED = Layout(world_size=4, fc_parallel=4)
SHARED_BY_PAIRS = Layout(world_size=4, fc_parallel=2, accumulates=True)


@pytest.fixture(scope="module")
def train(tmp_path_factory) -> Callable[[Layout], list[dict]]:
    """Gives what the ranks of a layout end with."""
    return functools.cache(lambda layout: train_in_processes(narrow(), layout, tmp_path_factory.mktemp("ranks")))


@pytest.mark.distributed
@pytest.mark.parametrize("layout", [PLAIN, DAMAGED, SHARED, SHARED_BY_PAIRS], ids=str)
def test_ranks_end_as_the_mean_of_their_gradients_on_one_device(train, layout):
    check_equal(train(layout), train_alone(narrow(), layout), layout)


@pytest.mark.distributed
def test_each_rank_holds_its_share_of_the_linear_layers_and_all_convolutions(train):
    for rank in train(SHARED):
        assert rank["num_own"] == NUM_CONV_PARAMETERS + (NUM_PARAMETERS - NUM_CONV_PARAMETERS) // 4


def reduce(num_parameters: float, num_ranks: int) -> float:
    return 2 * (num_ranks - 1) / num_ranks * num_parameters * DOUBLE_BYTES


@pytest.mark.distributed
def test_copies_send_their_gradients(train):
    for rank in train(PLAIN):
        assert rank["sent_bytes"] == {"all-reduce": reduce(NUM_PARAMETERS, 2)}


@pytest.mark.distributed
def test_ranks_that_share_send_activations_and_the_gradients_of_convolutions(train):
    gathered = BATCH_SIZE * NUM_INPUTS * DOUBLE_BYTES * 3 / 4
    exchanged = 2 * BATCH_SIZE * NUM_OUTPUTS * DOUBLE_BYTES * 3 / 4  # gloo gathers where others exchange
    for rank in train(SHARED):
        assert rank["sent_bytes"] == {
            "all-gather": gathered + exchanged,
            "reduce-scatter": gathered,
            "all-reduce": reduce(NUM_CONV_PARAMETERS, 4),
        }


@pytest.mark.distributed
def test_pairs_that_share_average_all_gradients_once_a_step(train):
    num_shared = (NUM_PARAMETERS - NUM_CONV_PARAMETERS) / 2
    for rank in train(SHARED_BY_PAIRS):
        assert rank["sent_bytes"]["all-reduce"] == reduce(NUM_CONV_PARAMETERS, 4) + reduce(num_shared, 2)


@pytest.mark.parametrize(("num_ranks", "layer", "units"), [(3, "fc6", 4096), (16, "fc8", 1000)])
def test_units_that_do_not_divide_are_refused(num_ranks, layer, units):
    with pytest.raises(InputError, match=f"--fc-parallel {num_ranks}: {layer} has {units} units, which do not divide"):
        check_fc_parallel(EXPERIMENTS["source-2012"].config.model, num_ranks)
