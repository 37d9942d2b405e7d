"""The named experiments and augmentations, and what differs between two."""

from pipeline.experiments.augmentations import AUGMENTATIONS, get_augmentation
from pipeline.experiments.differences import Difference, compare, find_differences, flatten
from pipeline.experiments.experiment import Experiment
from pipeline.experiments.registry import EXPERIMENTS, GROUPS, Status, describe_status, get_experiment, get_status

__all__ = [
    "AUGMENTATIONS",
    "EXPERIMENTS",
    "GROUPS",
    "Difference",
    "Experiment",
    "Status",
    "compare",
    "describe_status",
    "find_differences",
    "flatten",
    "get_augmentation",
    "get_experiment",
    "get_status",
]
