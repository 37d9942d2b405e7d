"""What must not change numbers, unless data are damaged: what each command reads, writes and may use."""

from pipeline.options.bench import AugmentBenchConfig, PreprocessBenchConfig, TrainBenchConfig
from pipeline.options.loading import Decoder, Device, LoadingConfig, Split, count_cores_per_rank
from pipeline.options.preprocess import (
    Encoding,
    InspectConfig,
    Layout,
    MergeConfig,
    PackingConfig,
    PreprocessConfig,
    RepairConfig,
    Resize,
    StatusConfig,
    VerifyConfig,
)
from pipeline.options.stages import DemoConfig, EvaluateConfig, PreviewConfig, ReportConfig, RuntimeConfig

__all__ = [
    "AugmentBenchConfig",
    "Decoder",
    "DemoConfig",
    "Device",
    "Encoding",
    "EvaluateConfig",
    "InspectConfig",
    "Layout",
    "LoadingConfig",
    "MergeConfig",
    "PackingConfig",
    "PreprocessBenchConfig",
    "PreprocessConfig",
    "PreviewConfig",
    "RepairConfig",
    "ReportConfig",
    "Resize",
    "RuntimeConfig",
    "Split",
    "StatusConfig",
    "TrainBenchConfig",
    "VerifyConfig",
    "count_cores_per_rank",
]
