"""What the network sees of a shard set, to look at before training: `alexnet augment preview`."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.artifacts import ShardSet, ShardSplit, read_shard_set, to_json, write_bytes
from pipeline.augment.color import build_color_statistics
from pipeline.augment.draws import compute_normalization
from pipeline.augment.geometry import build_views
from pipeline.augment.loader import EvaluationLoader, TrainLoader
from pipeline.augment.preview_figure import draw_preview
from pipeline.augment.preview_pixels import Mean, read_mean, restore
from pipeline.augment.preview_record import Patch, Pixels, Preview, Sample
from pipeline.config import AugmentConfig
from pipeline.distributed import World, join_world
from pipeline.errors import RunError, check
from pipeline.experiments import flatten
from pipeline.options import PreviewConfig

NUM_VIEWS = 10


def preview(
    name: str, registered: AugmentConfig, augment: AugmentConfig, config: PreviewConfig, *, num_epochs: int | None
) -> None:
    """Write a picture of what the network sees, and print where it is, or as JSON what is on it.

    Args:
        name: of an experiment or augmentation.
        registered: the augmentation of that name.
        augment: the same with the user's changes.
        config: which batch of which shard set.
        num_epochs: of the experiment; None for an augmentation, which has no end.

    Raises:
        InputError: there is no such shard set, split or device, they do not fit the augmentation or the batch, or the
            picture exists.
        RunError: a picture is damaged.
    """
    out = config.out or Path(f"preview-{name}-step-{config.step}.png")
    check(not out.exists(), f"--out {out} already exists: remove it or choose another file")
    with join_world(config.device) as world:
        check(world.world_size == 1, f"one process makes a preview, found {world.world_size}: start without torchrun")
        shard_set = read_shard_set(config.data)
        loader = TrainLoader(
            shard_set,
            augment,
            global_batch_size=config.global_batch_size,
            seed=config.seed,
            world=world,
            loading=config,
        )
        check(
            num_epochs is None or config.step < num_epochs * loader.steps_per_epoch,
            f"--step {config.step}: {name} has {num_epochs} epochs of {loader.steps_per_epoch} steps on this set, "
            "counted from 0: choose an earlier one",
        )
        mean = read_mean(shard_set, augment)
        batch, batch_pixels = load_batch(shard_set, loader, mean, step=config.step, num_images=config.num_images)
        views, views_pixels = load_views(shard_set, augment, mean, config=config, world=world)
    before = dict(flatten(registered))
    epoch, step_in_epoch = divmod(config.step, loader.steps_per_epoch)
    record = Preview(
        path=str(out),
        name=name,
        changed={field: value for field, value in flatten(augment) if value != before[field]},
        augment=augment,
        shards=str(config.data),
        digest=shard_set.info.digest,
        seed=config.seed,
        global_batch_size=config.global_batch_size,
        step=config.step,
        epoch=epoch,
        step_in_epoch=step_in_epoch,
        steps_per_epoch=loader.steps_per_epoch,
        draws_digest=loader.sampler.compute_digest(config.step),
        channel_mean=tuple(mean.channels.tolist()),
        batch=batch,
        views=views,
    )
    write_bytes(out, draw_preview(record, batch_pixels, views_pixels, mean.render(), kind=out.suffix[1:].lower()))
    print(to_json(record).decode() if config.json else format_summary(record))


def load_batch(
    shard_set: ShardSet, loader: TrainLoader, mean: Mean, *, step: int, num_images: int
) -> tuple[tuple[Sample, ...], list[Pixels]]:
    """The first pictures of a training batch that are not damaged.

    Raises:
        RunError: all are.
    """
    batch, draws = next(loader.run(step, step + 1)), loader.sampler.draw(step)
    if len(batch.positions) == 0:
        raise RunError(f"each picture of step {step} is damaged: see `alexnet preprocess verify` and `repair`")
    indices = np.flatnonzero(np.isin(loader.sampler.select(step), batch.positions))[:num_images]
    samples, pixels = [], []
    for image, index, position in zip(batch.images, indices.tolist(), batch.positions.tolist(), strict=False):
        patch = Patch(
            top=int(draws.starts[index, 0]),
            left=int(draws.starts[index, 1]),
            height=int(draws.shapes[index, 0]),
            width=int(draws.shapes[index, 1]),
            mirror=bool(draws.mirrors[index]),
            color_shift=tuple(draws.color_shifts[index].tolist()),
            divisor=tuple(draws.divisors[index].tolist()),
        )
        samples.append(describe_sample(shard_set, loader.split, position, (patch,)))
        pixels.append(Pixels(stored=read_stored(loader.split, position), patches=(restore(image, patch, mean),)))
    return tuple(samples), pixels


def load_views(
    shard_set: ShardSet, augment: AugmentConfig, mean: Mean, *, config: PreviewConfig, world: World
) -> tuple[Sample, Pixels]:
    """The ten views of the first picture of a split that is not damaged."""
    split = config.split or ("val" if "val" in shard_set.info.splits else "train")
    loader = EvaluationLoader(shard_set, augment, split, "ten", batch_size=NUM_VIEWS, world=world, loading=config)
    batch = next(loader.run(), None)
    if batch is None:
        raise RunError(f"each picture of {split} is damaged: see `alexnet preprocess verify` and `repair`")
    _, scale = compute_normalization(augment, build_color_statistics(shard_set.info.color, augment))
    patches = tuple(
        Patch(
            top=view.top,
            left=view.left,
            height=augment.crop_pixels,
            width=augment.crop_pixels,
            mirror=view.mirror,
            color_shift=(0.0,) * augment.num_channels,
            divisor=tuple(scale.tolist()),
        )
        for view in build_views("ten", image_pixels=shard_set.info.packing.pixels, crop_pixels=augment.crop_pixels)
    )
    position = int(batch.positions[0])
    restored = tuple(restore(image, patch, mean) for image, patch in zip(batch.images[0], patches, strict=True))
    sample = describe_sample(shard_set, loader.split, position, patches)
    return sample, Pixels(stored=read_stored(loader.split, position), patches=restored)


def describe_sample(shard_set: ShardSet, split: ShardSplit, position: int, patches: tuple[Patch, ...]) -> Sample:
    """What is known of a picture."""
    label = int(split.labels[position])
    found = shard_set.info.classes[label]
    return Sample(
        split=split.name,
        position=position,
        key=split.key(position),
        label=label,
        class_id=found.id,
        class_name=found.name,
        patches=patches,
    )


def read_stored(split: ShardSplit, position: int) -> npt.NDArray[np.uint8]:
    """A whole picture as it is stored, (side, side, 3) uint8."""
    content = split.read(position)
    if split.is_raw:
        return content
    with Image.open(io.BytesIO(content.tobytes())) as image:
        return np.asarray(image)


def format_summary(record: Preview) -> str:
    """What is on the picture, for people."""
    return (
        f"augment preview: {record.path}: {len(record.batch)} of the {record.global_batch_size} pictures of step "
        f"{record.step} (epoch {record.epoch}, step {record.step_in_epoch} of {record.steps_per_epoch} in it, all "
        f"counted from 0), and the ten views of {record.views.split} picture {record.views.key}"
    )
