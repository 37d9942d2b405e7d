"""Which runs may take a row of the report, and why the others may not."""

from collections.abc import Callable, Sequence

from pipeline import paper
from pipeline.artifacts import EvaluationRecord, Split
from pipeline.claims import Dataset, Views
from pipeline.experiments import find_differences, get_experiment
from pipeline.report.answer import NotRunError
from pipeline.report.measured import MeasuredRun, format_epochs

FindObstacle = Callable[[MeasuredRun], str | None]
"""Says in a few words why a run may not take a row; None where it may."""


def choose_runs(
    runs: Sequence[MeasuredRun], experiment: str, find_obstacle: FindObstacle, *, num_seeds: int = 1
) -> tuple[MeasuredRun, ...]:
    """The runs of an experiment with the lowest seeds, one of each seed.

    Raises:
        NotRunError: too few may take a row.
    """
    refused, chosen = [], dict[int, MeasuredRun]()
    for run in runs:
        if run.record.experiment == experiment:
            obstacle = find_obstacle(run)
            if obstacle is None:
                chosen.setdefault(run.record.config.seed, run)
            else:
                refused.append(f"{run.path.name}: {obstacle}")
    if len(chosen) < num_seeds:
        lacking = [f"{len(chosen)} of {num_seeds} seeds of {experiment}"] if chosen else []
        raise NotRunError(*lacking, *refused)
    return tuple(chosen[seed] for seed in sorted(chosen)[:num_seeds])


def find_obstacle(run: MeasuredRun, dataset: Dataset) -> str | None:
    """Why a run may take no row at all.

    It must have the registered configuration, of any seed; committed code at every start; weights of its own; the whole
    data set, but for pictures that could not be decoded when it was packed.
    """
    record = run.record
    changed = set(find_differences(get_experiment(record.experiment).config, record.config))
    whole = count_official(dataset, "train")
    pixels = paper.CIFAR10_PIXELS if dataset == "CIFAR-10" else paper.IMAGE_PIXELS
    obstacles = {
        "imported": record.status not in ("as registered", "modified"),
        "modified": bool(changed - {"seed"}) or (record.status == "modified") != bool(changed),
        "code that was not committed": any(start.dirty for start in record.starts),
        "weights of another run": (record.weights is None) != (record.config.pretrained == "none"),
        f"data not proved to be all of {dataset}": not record.data_complete,
        "other pictures than those of the paper": (record.data_packing.resize, record.data_packing.pixels)
        != ("crop", pixels),
        f"{record.num_train_images:,} of {whole:,} training pictures": not (
            0 <= whole - record.num_train_images <= record.num_dropped_images
        ),
        "pictures were left out as damaged": run.num_skipped > 0,
    }
    return next((obstacle for obstacle, stands in obstacles.items() if stands), None)


def find_training_obstacle(run: MeasuredRun, dataset: Dataset) -> str | None:
    """Why a run may take no row that its training answers: it must have reached the end, too."""
    epochs, whole = run.record.config.schedule.epochs, count_official(dataset, "val")
    if run.num_epochs < epochs:
        return find_obstacle(run, dataset) or f"{format_epochs(run.num_epochs)} of {epochs} epochs"
    if not 0 <= whole - run.record.num_val_images <= run.record.num_dropped_images:
        return find_obstacle(run, dataset) or f"{run.record.num_val_images:,} of {whole:,} validation pictures"
    return find_obstacle(run, dataset)


def find_evaluation_obstacle(
    run: MeasuredRun, dataset: Dataset, split: Split, views: Views, *, saved: bool
) -> str | None:
    """Why a run may take no row of errors: after its last epoch, committed code must have evaluated the whole split.

    Args:
        run: the run.
        dataset: that of the row.
        split: likewise.
        views: likewise.
        saved: whether each picture's probabilities are needed, too.
    """
    obstacle, evaluation = find_obstacle(run, dataset), run.find_evaluation(split, views)
    if obstacle is not None or evaluation is None:
        return obstacle or f"not evaluated on {split}, {views}"
    whole, epochs = count_official(dataset, split), run.record.config.schedule.epochs
    obstacles = {
        f"evaluated after {evaluation.epoch} of {epochs} epochs": evaluation.epoch != epochs,
        "evaluated by code that was not committed": evaluation.dirty,
        "evaluated on other data": evaluation.data_digest != run.record.data_digest,
        f"{evaluation.num_images:,} of {whole:,} pictures of {split}": evaluation.num_skipped > 0
        or not 0 <= whole - evaluation.num_images <= run.record.num_dropped_images,
        "its probabilities are not there": saved and not run.find_probabilities(evaluation).is_file(),
    }
    return next((obstacle for obstacle, stands in obstacles.items() if stands), None)


def get_evaluation(run: MeasuredRun, split: Split, views: Views) -> EvaluationRecord:
    """The evaluation of a run that has one."""
    evaluation = run.find_evaluation(split, views)
    assert evaluation is not None
    return evaluation


def count_official(dataset: Dataset, split: str) -> int:
    """Pictures of a split of the whole data set."""
    return (paper.CIFAR10_NUM_IMAGES if dataset == "CIFAR-10" else paper.NUM_IMAGES[dataset])[split]
