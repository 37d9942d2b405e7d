"""All experiments by name."""

from typing import Literal

from pipeline.config import ExperimentConfig
from pipeline.errors import InputError
from pipeline.experiments.ablations import ABLATIONS
from pipeline.experiments.differences import find_differences
from pipeline.experiments.experiment import Experiment
from pipeline.experiments.figure_one import FIGURE_ONE
from pipeline.experiments.neighbours import NEIGHBOURS
from pipeline.experiments.tutorials import TUTORIALS
from pipeline.experiments.two_towers import PAPER, SOURCE_2010, SOURCE_2012

GROUPS: dict[str, tuple[Experiment, ...]] = {
    "what ran, and what the text says": (SOURCE_2010, SOURCE_2012, PAPER),
    "what the paper takes away or adds": ABLATIONS,
    "Fig. 1": FIGURE_ONE,
    "as others have published it, and as one would train it today": NEIGHBOURS,
    "as tutorials teach it": TUTORIALS,
}
"""All experiments, as `alexnet experiments` lists them."""

EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for group in GROUPS.values() for experiment in group}


def get_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: there is none.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


Status = Literal["as registered", "modified"]


def get_status(name: str, config: ExperimentConfig) -> Status:
    """Whether `config` is what `name` registers; who changed more than the seed never takes a row of the report."""
    return "modified" if find_differences(get_experiment(name).config, config) else "as registered"


def describe_status(name: str, config: ExperimentConfig, status: str) -> str:
    """A run's status in words: where nothing but the seed was changed, which keeps no run from a row, that seed."""
    changed = find_differences(get_experiment(name).config, config)
    return f"as registered, seed {config.seed}" if status == "modified" and set(changed) == {"seed"} else status
