"""Claims of the network itself: its size, its first layer's kernels, what its last hidden layer holds to be alike."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from pipeline.artifacts import NeighboursRecord, RunDirectory, read_json
from pipeline.claims import Claim, KernelColors, Neighbours, NetworkCount
from pipeline.experiments import get_experiment
from pipeline.model.describe import describe_layers
from pipeline.report.answer import Answer, NotRunError, list_seeds
from pipeline.report.measured import MeasuredRun
from pipeline.report.training_answers import choose_any
from pipeline.report.verdicts import judge_colors, judge_count


def answer_network(
    claim: Claim, measure: NetworkCount | KernelColors | Neighbours, runs: Sequence[MeasuredRun]
) -> Answer:
    """What the registered network, or that of a run, says to a claim.

    Raises:
        NotRunError: no run may take the row.
    """
    match measure:
        case NetworkCount():
            return answer_count(claim, measure)
        case KernelColors():
            return answer_colors(claim, measure, runs)
        case Neighbours():
            return answer_neighbours(claim, measure, runs)


def answer_count(claim: Claim, measure: NetworkCount) -> Answer:
    """Parameters or neurons of the registered network, without a run."""
    config = get_experiment(measure.experiment).config
    rows = describe_layers(config.model, input_pixels=config.augment.input_pixels)
    count = sum(row.num_parameters if measure.of == "parameters" else row.num_neurons for row in rows)
    return Answer(claim=claim, verdict=judge_count(count, measure.number), text=f"{count:,}", remarks=("computed",))


def answer_colors(claim: Claim, measure: KernelColors, runs: Sequence[MeasuredRun]) -> Answer:
    """The median share of colour in each tower's kernels (Fig. 3).

    Raises:
        NotRunError: no run may take the row, or its kernels are not there.
    """
    run = choose_any(measure, runs)
    path = RunDirectory(run.path).kernels
    if not path.is_file():
        raise NotRunError(f"{run.path.name}: no {path.name}")
    towers = np.split(measure_colors(np.load(path)), run.record.config.model.towers)
    medians = [float(np.median(tower)) for tower in towers]
    p = float(mannwhitneyu(*towers).pvalue)
    return Answer(
        claim=claim,
        verdict=judge_colors(medians, p),
        text=f"median share of colour {' and '.join(f'{median:.0%}' for median in medians)}, p = {p:.1g}",
        remarks=list_seeds((run,)),
        runs=(run,),
    )


def measure_colors(kernels: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Share of each kernel that is off the grey axis.

    Args:
        kernels: (K, 3, height, width).

    Returns:
        (K,) in [0, 1]: squared weights less each pixel's mean over the channels, over all squared weights.
    """
    whole = kernels.astype(np.float64)
    colors = whole - whole.mean(axis=1, keepdims=True)
    shares: npt.NDArray[np.float64] = (colors**2).sum(axis=(1, 2, 3)) / (whole**2).sum(axis=(1, 2, 3))
    return shares


def answer_neighbours(claim: Claim, measure: Neighbours, runs: Sequence[MeasuredRun]) -> Answer:
    """Whether Fig. 4 can be drawn of a run.

    Raises:
        NotRunError: no run may take the row, or none looked for neighbours.
    """
    run = choose_any(measure, runs)
    found = [read_json(path, NeighboursRecord) for path in RunDirectory(run.path).neighbours.glob("*.json")]
    if all(record.dirty for record in found):
        how = "looked for by code that was not committed" if found else "not evaluated with --neighbours"
        raise NotRunError(f"{run.path.name}: {how}")
    return Answer(claim=claim, verdict="no verdict", text="found; see the run", remarks=list_seeds((run,)), runs=(run,))
