"""The named experiments and augmentations, and what differs between two."""

from pipeline.experiments.augmentations import AUGMENTATIONS, get_augmentation
from pipeline.experiments.differences import find_differences, flatten
from pipeline.experiments.registry import EXPERIMENTS, Experiment, Status, get_experiment, get_status

__all__ = [
    "AUGMENTATIONS",
    "EXPERIMENTS",
    "Experiment",
    "Status",
    "find_differences",
    "flatten",
    "get_augmentation",
    "get_experiment",
    "get_status",
]
