"""What the paper claims, row by row, and what measures each row here."""

from pipeline.claims.claim import (
    AnyRun,
    Claim,
    Comparison,
    Dataset,
    EpochRatio,
    ErrorRate,
    ErrorRise,
    Errors,
    EvaluatedSplit,
    GapRise,
    KernelColors,
    Measure,
    Neighbours,
    NetworkCount,
    TrainingErrorRise,
    TrainingTime,
    Views,
)
from pipeline.claims.rows import CLAIMS, find_splits

__all__ = [
    "CLAIMS",
    "AnyRun",
    "Claim",
    "Comparison",
    "Dataset",
    "EpochRatio",
    "ErrorRate",
    "ErrorRise",
    "Errors",
    "EvaluatedSplit",
    "GapRise",
    "KernelColors",
    "Measure",
    "Neighbours",
    "NetworkCount",
    "TrainingErrorRise",
    "TrainingTime",
    "Views",
    "find_splits",
]
