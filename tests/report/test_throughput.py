"""The table of throughput: what the benchmarks' own files say, and nothing that is no such file."""

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.report.throughput import build_throughput_table

ORIGIN = {
    "command": "alexnet bench train",
    "commit": "c0ffee" * 7,
    "dirty": False,
    "machine": "AMD EPYC, 2 cores",
    "device": "cpu",
    "tools": {},
}
TIMING = {"variant": "step", "images_per_second": 1234.5, "ratio": 0.957, "ratio_to": "loader"}


def write_bench(folder: Path, name: str, **parts: object) -> None:
    path = folder / name / f"bench-{name}-cpu-c0ffee.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"origin": ORIGIN | parts.pop("origin", {}), **parts}))


def test_each_kind_of_benchmark_gives_its_headlines_with_their_origin(tmp_path):
    goal = {"stored": "raw", "peer": "DALI alone", "wanted": 0.95, "measured": 1.198, "reached": True}
    steps = [TIMING, TIMING | {"variant": "step with torch's own norms"}]
    volume = {"world_size": 8, "sharing": "--towers 2", "sent_bytes": {}, "times_fewer": 2.105}
    write_bench(tmp_path, "augment", timings=[TIMING], goals=[goal])
    write_bench(tmp_path, "communication", volumes=[volume, volume | {"sharing": "copies"}])
    write_bench(tmp_path, "layers", settings=[{"name": "bfloat16, NHWC", "steps": steps}])
    sync = {"what": "all points", "num_points": 100_002, "seconds": 12.345, "peak_bytes": 250_000_000}
    write_bench(tmp_path, "sync", syncs=[sync])
    write_bench(tmp_path, "train", timings=[TIMING], origin={"dirty": True})
    table = build_throughput_table(tmp_path)
    assert [row[:3] for row in table.rows] == [
        ("loader, raw", "", "1.20 × DALI alone (wanted 0.95)"),
        ("bytes sent by each of 8 ranks, --towers 2", "", "2.1 times fewer than copies"),
        ("step, bfloat16, NHWC", "1,234", "0.96 × loader"),
        ("sync to MLflow, all points", "", "100,002 points in 12.3 s, 250 MB at most"),
        ("step", "1,234", "0.96 × loader"),
    ]
    assert [row[4] for row in table.rows] == ["c0ffeec0ffee"] * 4 + ["c0ffeec0ffee + changes"]
    assert {row[3::2] for row in table.rows} == {("alexnet bench train", "cpu, AMD EPYC, 2 cores")}


def test_without_benchmarks_there_is_no_table(tmp_path):
    assert build_throughput_table(tmp_path) is None


@pytest.mark.parametrize("text", ["{}", "no JSON", json.dumps({"origin": ORIGIN, "timings": [{"variant": 1}]})])
def test_a_file_that_is_no_benchmark_s_is_named(tmp_path, text):
    (tmp_path / "bench-mine.json").write_text(text)
    with pytest.raises(InputError, match=r"bench-mine.json is not what a benchmark writes: field "):
        build_throughput_table(tmp_path)


def test_the_results_in_this_repository_are_all_read():
    table = build_throughput_table(Path(__file__).parents[2] / "results")
    assert {row[3].split()[2] for row in table.rows} >= {"augment", "communication", "layers", "preprocess"}
