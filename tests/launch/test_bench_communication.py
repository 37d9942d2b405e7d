"""The communication benchmark counts what processes of a real launcher send."""

import dataclasses

import pytest

from pipeline.experiments import EXPERIMENTS
from pipeline.launch.bench_communication import Sharing, count_ways, format_volumes


@pytest.mark.distributed
@pytest.mark.slow
def test_ways_are_compared_with_copies():
    config = EXPERIMENTS["source-2012"].config
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, width=0.0625, num_classes=12),
        augment=dataclasses.replace(config.augment, crop_pixels=67),
    )
    copies, shared = count_ways(config, [Sharing(world_size=2), Sharing(world_size=2, fc_parallel=2)], batch_size=4)
    assert copies.sent_bytes == {"all-reduce": 84468 * 4}
    assert copies.times_fewer == 1
    assert shared.times_fewer == copies.sent_bytes["all-reduce"] / sum(shared.sent_bytes.values()) > 5
    assert [line.split()[:3] for line in format_volumes([copies, shared]).splitlines()[2:]] == [
        ["2", "copies", "0.3"],
        ["2", "--fc-parallel", "2"],
    ]
