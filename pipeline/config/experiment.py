"""All that makes an experiment what it is."""

from dataclasses import dataclass
from typing import Literal

from pipeline.config.augment import AugmentConfig
from pipeline.config.network import ModelConfig
from pipeline.config.training import OptimizerConfig, ScheduleConfig
from pipeline.errors import check

Precision = Literal["float32", "tf32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentConfig:
    """Everything that changes numbers."""

    augment: AugmentConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    global_batch_size: int = 128
    """Images per optimiser step, over all ranks."""
    precision: Precision = "float32"
    """Arithmetic of the network. tf32: float32 with products of 10 bits, on a GPU; bfloat16, float16: autocast, weights
    stay float32."""
    pretrained: Literal["none", "features", "all"] = "none"
    """What --weights gives at the start: nothing, all layers but the last, or all."""
    seed: int = 0
    """Seeds initial weights, order, augmentation and dropout."""

    def __post_init__(self) -> None:
        check(self.global_batch_size > 0, f"--global-batch-size must be positive, found {self.global_batch_size}")
        check(
            self.model.in_channels == self.augment.num_channels,
            f"--model.in-channels is {self.model.in_channels} and pictures come with {self.augment.num_channels}: "
            "--augment.gray gives 1, its absence 3",
        )
        check(self.seed >= 0, f"--seed must not be negative, found {self.seed}")

    def batch_size_per_rank(self, world_size: int) -> int:
        """Images per step on each of `world_size` ranks.

        Raises:
            InputError: the global batch does not divide.
        """
        check(
            self.global_batch_size % world_size == 0,
            f"--global-batch-size {self.global_batch_size} does not divide over {world_size} ranks: "
            f"choose a multiple of {world_size} or another number of ranks",
        )
        return self.global_batch_size // world_size
