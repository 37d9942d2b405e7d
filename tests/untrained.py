"""Shard sets of pictures that a test hands over, and runs on them whose network never trained."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from pipeline.artifacts import RunDirectory, RunRecord, ShardSet, read_shard_set, write_json
from pipeline.checkpoint import Checkpoint, write_checkpoint
from pipeline.config import (
    AugmentConfig,
    ConvConfig,
    ExperimentConfig,
    LinearConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from pipeline.model.alexnet import build_alexnet
from pipeline.options import PreprocessConfig
from pipeline.preprocess.stage import preprocess

STEP = 6


def pack_pictures(folder: Path, pictures: Mapping[str, Image.Image], *, pixels: int, **packing: object) -> ShardSet:
    """Pack pictures, by `SPLIT/CLASS/NAME`, in shards of five."""
    for name, picture in pictures.items():
        path = folder / "pictures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    defaults = {"images_per_shard": 5, "workers": 1, "allow_partial": True}
    preprocess(PreprocessConfig(source=folder / "pictures", out=folder / "set", pixels=pixels, **(defaults | packing)))
    return read_shard_set(folder / "set")


def build_config(shard_set: ShardSet, *, num_linears: int = 3, **model: object) -> ExperimentConfig:
    """A convolution of 6 kernels, then fc6 and fc7 of 20 units with dropout, or fewer linear layers."""
    hidden = tuple(
        LinearConfig(name=f"fc{8 - left}", units=20, weight_std=0.2, bias=0.1) for left in range(num_linears - 1, 0, -1)
    )
    conv = ConvConfig(name="conv1", kernels=6, size=5, stride=3, after=("relu", "pool"), weight_std=0.1)
    side = shard_set.info.packing.pixels
    return ExperimentConfig(
        augment=AugmentConfig(crop_pixels=side - 4, num_offsets=5, pixel_scale=50.0, color_scale="none"),
        model=ModelConfig(
            convs=(conv,),
            linears=(*hidden, LinearConfig(name="fc8", units=None, after=(), weight_std=0.2)),
            **({"towers": 1, "num_classes": len(shard_set.info.classes)} | model),
        ),
        optimizer=OptimizerConfig(),
        schedule=ScheduleConfig(epochs=2, weights=((0, 0.01),), biases=((0, 0.01),)),
        global_batch_size=4,
    )


def write_run(path: Path, shard_set: ShardSet, config: ExperimentConfig, *, seed: int = 0) -> RunDirectory:
    """A run directory with a checkpoint after `STEP` steps that has the network's initial weights."""
    run, info = RunDirectory(path), shard_set.info
    record = RunRecord(
        id="0123456789abcdef",
        experiment="source-2012",
        status="modified",
        config=config,
        data=str(shard_set.path),
        data_digest=info.digest,
        data_layout=info.layout,
        data_complete=False,
        data_packing=info.packing,
        num_dropped_images=0,
        num_train_images=info.splits["train"].num_images,
        num_val_images=info.splits["val"].num_images,
        starts=(),
    )
    write_json(run.config, record)
    network = build_alexnet(config.model, input_pixels=config.augment.input_pixels, seed=seed)
    checkpoint = Checkpoint(
        experiment=record.experiment,
        config=config,
        data_digest=info.digest,
        step=STEP,
        steps_per_epoch=3,
        evaluations=(),
        draws_digest="",
        stalled=False,
        model=network.state_dict(),
        optimizer={},
        scaler={},
    )
    write_checkpoint(run.checkpoints, checkpoint, keep=1)
    return run
