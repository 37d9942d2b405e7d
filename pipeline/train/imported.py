"""`alexnet weights import`: weights that were trained elsewhere become a run of no steps, which can be evaluated."""

import socket

import numpy as np
import numpy.typing as npt
import torch

from pipeline.artifacts import RunDirectory, ShardSet, read_shard_set, to_npy, write_bytes
from pipeline.checkpoint import Checkpoint, Identity, write_checkpoint
from pipeline.config import ExperimentConfig
from pipeline.distributed import World
from pipeline.errors import check
from pipeline.options import ImportConfig, RuntimeConfig
from pipeline.train.admission import check_run_directory, record_start
from pipeline.weights import read_weights
from pipeline.weights.caffe import read_caffe_mean


def import_weights(name: str, config: ExperimentConfig, options: ImportConfig) -> None:
    """Make a run directory of a file of weights, for `alexnet evaluate` and `alexnet weights export`.

    Its status is `imported` and its only checkpoint that of step 0, so that no row of the report can be its.

    Args:
        name: experiment whose network they fit and whose preprocessing they were trained with.
        config: its configuration.
        options: files and directories.

    Raises:
        InputError: weights, mean image, shard set and experiment do not fit each other, or the run directory is taken.
    """
    shard_set = read_shard_set(options.data)
    shard_set.check_classes(config.model.num_classes)
    run = RunDirectory(options.out)
    identity = Identity(experiment=name, config=config, data_digest=shard_set.info.digest)
    check(not run.config.is_file(), f"--out {run.path} already exists: choose another directory")
    check_run_directory(run, identity, resume=False)
    weights = read_weights(options.file, config.model, input_pixels=config.augment.input_pixels)
    mean = _read_mean(options, config, shard_set) if options.mean is not None else None
    runtime = RuntimeConfig(data=options.data, out=options.out, weights=options.file)
    world = World(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
    record_start(run, identity, runtime, shard_set, world, weights, hosts=[socket.gethostname()], status="imported")
    if mean is not None:
        write_bytes(run.mean_image, to_npy(mean))
    checkpoint = Checkpoint(
        experiment=name,
        config=config,
        data_digest=identity.data_digest,
        step=0,
        steps_per_epoch=max(1, shard_set.info.splits["train"].num_images // config.global_batch_size),
        evaluations=(),
        draws_digest="",
        stalled=False,
        model=weights.state,
        optimizer={},
        scaler={},
    )
    write_checkpoint(run.checkpoints, checkpoint, keep=1)
    print(
        f"weights import: {weights.path} ({weights.kind}, SHA-256 {weights.sha256[:12]}…) is now the run {run.path}: "
        f"see `alexnet evaluate {run.path}`",
        flush=True,
    )


def _read_mean(options: ImportConfig, config: ExperimentConfig, shard_set: ShardSet) -> npt.NDArray[np.float32]:
    """The mean image of --mean, once it is known to be of use."""
    assert options.mean is not None
    mean, side = read_caffe_mean(options.mean), shard_set.info.packing.pixels
    check(
        config.augment.mean in {"centered", "cropped"},
        f"--mean {options.mean} has no use: with --augment.mean {config.augment.mean} no mean image is subtracted",
    )
    check(
        mean.shape[0] == side,
        f"--mean {options.mean} is {mean.shape[0]}x{mean.shape[0]}, and the pictures in {shard_set.path} are "
        f"{side}x{side}: pass another of the two",
    )
    return mean
