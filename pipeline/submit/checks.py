"""What can be proved before a job waits in the queue for days. As the stages do, but without torch."""

from pathlib import Path

from pipeline.artifacts import RunDirectory, ShardSet, read_shard_set
from pipeline.config import ExperimentConfig
from pipeline.errors import InputError, check
from pipeline.experiments import find_differences
from pipeline.options import PreprocessConfig, RuntimeConfig
from pipeline.preprocess.plan import PLAN_FILE, check_plan_fits, read_plan
from pipeline.preprocess.sources import find_layout
from pipeline.preprocess.stage import check_places, is_finished
from pipeline.submit.done import find_newest_step
from pipeline.submit.jobs import RESUMABLE, Chain
from pipeline.submit.request import Request, count_seconds
from pipeline.submit.slurm import read_partitions

START_SECONDS = 180
"""What a job needs before its first step, and Slurm's signal may come a minute early."""


def check_source(config: PreprocessConfig) -> None:
    """Refuse pictures that are not there, and a shard set that was begun otherwise.

    Raises:
        InputError: as above, or the output is another's.
    """
    if (config.out / PLAN_FILE).is_file():
        check_plan_fits(read_plan(config.out), config.packing, config.out)
    if not is_finished(config.out):
        check_places(config)
        if config.layout is None:
            find_layout(config.source)


def check_ranks(config: ExperimentConfig, runtime: RuntimeConfig, num_ranks: int) -> None:
    """Refuse a number of ranks that cannot share the network, or the batch.

    Raises:
        InputError: as above.
    """
    sharing = max(runtime.towers, runtime.fc_parallel)
    check(
        num_ranks % sharing == 0,
        f"{num_ranks} ranks cannot share networks among {sharing}: choose other --nodes or --gpus-per-node, or leave "
        f"out {'--towers' if runtime.towers > 1 else '--fc-parallel'}",
    )
    config.batch_size_per_rank(num_ranks // runtime.towers)


def check_data(data: Path, config: ExperimentConfig) -> ShardSet:
    """Open the shard set, and refuse one whose classes are not the network's outputs.

    Raises:
        InputError: as above, or it is not finished.
    """
    shard_set = read_shard_set(data)
    shard_set.check_classes(config.model.num_classes)
    return shard_set


def check_run(run: RunDirectory, experiment: str, config: ExperimentConfig, digest: str | None) -> None:
    """Refuse a run directory that another run has begun, or that holds something else.

    Args:
        run: the directory.
        experiment: what is to be trained there.
        config: with which configuration.
        digest: of the shard set; None where it is yet to be made.

    Raises:
        InputError: as above.
    """
    if not run.config.is_file():
        check(run.is_free, f"--out {run.path} already exists and holds no run: choose another directory")
        return
    record = run.read_record()
    differences = find_differences(record.config, config)
    listed = ", ".join(f"{field} is {there} there and {now} now" for field, (there, now) in differences.items())
    check(
        record.experiment == experiment and record.status != "imported",
        f"--out {run.path} belongs to experiment {record.experiment!r} ({record.status}), not to {experiment!r}: "
        "choose another directory",
    )
    check(not differences, f"--out {run.path} was begun otherwise ({listed}): pass the same flags, or another --out")
    check(
        digest in (None, record.data_digest),
        f"--out {run.path} was trained on another shard set than --data: pass {record.data}, or another --out",
    )


def check_weights(run: RunDirectory, config: ExperimentConfig, weights: Path | None) -> None:
    """Refuse weights to begin with that are missing or of no use; a run that has a checkpoint needs none.

    Raises:
        InputError: as above.
    """
    if find_newest_step(run) is None and config.pretrained != "none":
        check(weights, "this experiment begins with the weights of another network: pass --weights RUN_OR_FILE")
        check(
            weights is None or weights.exists(), f"--weights {weights} does not exist: pass a run directory, or a file"
        )
    check(
        weights is None or config.pretrained != "none",
        f"--weights {weights} has no use: this experiment draws its weights, unless --pretrained is features or all",
    )


def check_partitions(chain: Chain, request: Request) -> None:
    """Refuse partitions that are not there, have fewer nodes than are asked for, or give them for a shorter time.

    Slurm refuses the last two itself only on clusters that are set up to; on others such a job waits for ever.

    Raises:
        InputError: as above.
        RunError: Slurm does not answer.
    """
    partitions = read_partitions()
    names = ", ".join(partition.name for partition in partitions)
    for stage in dict.fromkeys(job.stage for job in chain.jobs):
        wanted = request.find_partition(stage).split(",")
        chosen = [found for found in partitions if found.name in wanted or (wanted == [""] and found.is_default)]
        if wanted == [""] and not chosen:
            raise InputError(f"this cluster has no partition by default: choose one of {names} with --partition")
        unknown = [name for name in wanted if name and name not in names.split(", ")]
        check(
            not unknown,
            f"the cluster has no partition {', '.join(unknown)}: choose one of {names} with --partition, or in "
            f"{request.site.path}",
        )
        num_nodes, limit = request.count_nodes(stage), request.find_time(stage)
        if stage in RESUMABLE:
            least = request.config.signal_seconds + START_SECONDS
            check(
                count_seconds(limit) >= least,
                f"--time {limit} ends before the {stage} job has begun to work: it is told to stop "
                f"{request.config.signal_seconds} s before, so pass at least {-(-least // 60)} minutes, or a smaller "
                "--signal-seconds",
            )
        most, longest = (
            max(found.max_nodes for found in chosen),
            max((found.max_time for found in chosen), key=count_seconds),
        )
        where = " or ".join(found.name for found in chosen)
        check(
            num_nodes <= most,
            f"the {stage} job asks for {num_nodes} nodes, and partition {where} gives at most {most}: pass fewer "
            "--nodes, or another --partition",
        )
        check(
            count_seconds(limit) <= count_seconds(longest),
            f"the {stage} job asks for {limit}, and partition {where} gives at most {longest}: pass --time {longest} "
            "or less, after which the job goes on by itself in the next",
        )
