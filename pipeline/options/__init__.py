"""What must not change numbers, unless data are damaged: what each command reads, writes and may use."""

from pipeline.options.bench import (
    AugmentBenchConfig,
    CommunicationBenchConfig,
    LayersBenchConfig,
    PreprocessBenchConfig,
    SyncBenchConfig,
    TrainBenchConfig,
)
from pipeline.options.contrast import ContrastConfig, RecipeName
from pipeline.options.doctor import DoctorConfig
from pipeline.options.drill import DrillConfig
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
from pipeline.options.runs import RunsConfig, SyncConfig
from pipeline.options.stages import (
    CurvesConfig,
    DemoConfig,
    EnsembleConfig,
    EvaluateConfig,
    PreviewConfig,
    ReportConfig,
)
from pipeline.options.train import RuntimeConfig
from pipeline.options.weights import ExportConfig, ImportConfig

__all__ = [
    "AugmentBenchConfig",
    "CommunicationBenchConfig",
    "ContrastConfig",
    "CurvesConfig",
    "Decoder",
    "DemoConfig",
    "Device",
    "DoctorConfig",
    "DrillConfig",
    "Encoding",
    "EnsembleConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ImportConfig",
    "InspectConfig",
    "LayersBenchConfig",
    "Layout",
    "LoadingConfig",
    "MergeConfig",
    "PackingConfig",
    "PreprocessBenchConfig",
    "PreprocessConfig",
    "PreviewConfig",
    "RecipeName",
    "RepairConfig",
    "ReportConfig",
    "Resize",
    "RunsConfig",
    "RuntimeConfig",
    "Split",
    "StatusConfig",
    "SyncBenchConfig",
    "SyncConfig",
    "TrainBenchConfig",
    "VerifyConfig",
    "count_cores_per_rank",
]
