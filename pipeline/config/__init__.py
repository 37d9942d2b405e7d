"""What changes numbers: the frozen dataclasses of an experiment, and the checks that their values must pass."""

from pipeline.config.augment import AugmentConfig
from pipeline.config.experiment import ExperimentConfig, Precision
from pipeline.config.network import ConvConfig, LinearConfig, ModelConfig, ResponseNormConfig, Step, WeightRule
from pipeline.config.training import OptimizerConfig, PlateauConfig, RateSteps, ScheduleConfig

__all__ = [
    "AugmentConfig",
    "ConvConfig",
    "ExperimentConfig",
    "LinearConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PlateauConfig",
    "Precision",
    "RateSteps",
    "ResponseNormConfig",
    "ScheduleConfig",
    "Step",
    "WeightRule",
]
