"""The sync benchmark counts what really arrived at a server that it starts itself."""

from pathlib import Path

import pytest

from pipeline.artifacts import read_json
from pipeline.launch.bench_sync import SyncBenchRecord, bench_sync
from pipeline.options import SyncBenchConfig


@pytest.mark.slow
def test_all_points_arrive_and_the_second_time_there_are_none(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record = bench_sync(SyncBenchConfig(points=601, out=tmp_path))
    assert record.num_points == record.num_arrived == 606
    first, again = record.syncs
    assert (first.num_points, again.num_points, again.points_per_second) == (606, 0, 0)
    assert first.points_per_second == 606 / first.seconds
    for sync in record.syncs:
        assert sync.peak_bytes > sync.peak_bytes_before > 10_000_000
    (path,) = tmp_path.glob("bench-sync-cpu-*.json")
    assert read_json(path, SyncBenchRecord) == record
    assert "all points" in capsys.readouterr().out
