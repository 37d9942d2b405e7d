"""Whether what was measured earlier still stands."""

from pipeline.artifacts import EvaluationRecord, NeighboursRecord
from pipeline.provenance import Commit


def is_final(record: EvaluationRecord | NeighboursRecord, now: Commit) -> bool:
    """Whether measuring again is needless: damage may have been repaired, and changes of the code committed."""
    return record.num_skipped == 0 and (now.dirty or not record.dirty)
