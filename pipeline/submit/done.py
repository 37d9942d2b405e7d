"""What is there already, as its files show, so that it is not submitted again."""

from pathlib import Path

from pipeline.artifacts import RunDirectory, Split, read_shard_set
from pipeline.options import EvaluateConfig, PreprocessConfig
from pipeline.preprocess.plan import find_plan
from pipeline.preprocess.records import find_records
from pipeline.preprocess.sources import find_layout
from pipeline.preprocess.stage import is_finished
from pipeline.preprocess.status import format_ranges


def find_missing_parts(shards: Path, num_parts: int) -> str | None:
    """The parts of a shard set that have something to do, as Slurm writes them; None where it is finished.

    Where only the merge is missing, any part does that.
    """
    if is_finished(shards):
        return None
    plan = find_plan(shards) if shards.is_dir() else None
    if plan is None:
        return format_ranges(range(num_parts))
    done = find_records(shards, plan.shards)
    return format_ranges(sorted({shard.number % num_parts for shard in plan.shards if shard not in done}) or [0])


def find_newest_step(run: RunDirectory) -> int | None:
    """Optimiser steps that the newest checkpoint of a run has behind it; None where there is none."""
    return max((int(path.stem.removeprefix("step-")) for path in run.checkpoints.glob("step-*.pt")), default=None)


def is_trained(run: RunDirectory, *, max_steps: int | None = None) -> bool:
    """Whether a run has come to its last step, or to that of --max-steps."""
    newest = find_newest_step(run)
    if newest is None or not run.config.is_file():
        return False
    record = run.read_record()
    num_steps = record.config.schedule.epochs * (record.num_train_images // record.config.global_batch_size)
    return newest >= min(num_steps, max_steps or num_steps)


def is_evaluated(run: RunDirectory, wanted: EvaluateConfig) -> bool:
    """Whether a run's newest checkpoint has been measured on a split in all views, and its neighbours, as asked for."""
    step = find_newest_step(run)
    files = [run.predictions / f"{wanted.split}-{views}-step-{step}.json" for views in wanted.views]
    files += [run.neighbours / f"{wanted.split}-step-{step}.json"] * (wanted.neighbours > 0)
    return wanted.checkpoint == "last" and all(file.is_file() for file in files)


def list_splits(shards: Path, packing: PreprocessConfig | None = None) -> tuple[Split, ...]:
    """Splits of a shard set; of one that is yet to be packed, those to measure errors on, as far as they are known."""
    if is_finished(shards):
        return tuple(read_shard_set(shards).info.splits)
    layout = packing and (packing.layout or find_layout(packing.source))
    return ("val", "test") if layout == "ilsvrc2010" else ("val",)
