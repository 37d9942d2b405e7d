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
    missed = {"stored": "jpeg", "peer": "DataLoader", "wanted": 1.5, "measured": 1.48, "reached": False}
    goal = {"stored": "raw", "peer": "DALI alone", "wanted": 0.95, "measured": 1.198, "reached": True}
    steps = [TIMING, TIMING | {"variant": "step with torch's own norms"}]
    volume = {"world_size": 8, "sharing": "--towers 2", "sent_bytes": {}, "times_fewer": 2.105}
    loader = {"variant": "this loader", "images_per_second": 5361.8, "stored": "raw", "ratio": 1, "ratio_to": "itself"}
    slower = loader | {"images_per_second": 3155.8}
    write_bench(tmp_path, "augment", timings=[TIMING, loader, slower], goals=[goal, missed])
    copies = volume | {"sharing": "copies"}
    write_bench(tmp_path, "communication", volumes=[copies, volume, volume], goal=8.0, reached=False)
    write_bench(tmp_path, "layers", settings=[{"name": "bfloat16, NHWC", "steps": steps}])
    sync = {"what": "all points", "num_points": 100_002, "seconds": 12.345, "peak_bytes": 250_000_000}
    write_bench(tmp_path, "sync", syncs=[sync])
    wait = {"variant": "both", "share": 0.071, "goal": 0.05, "reached": False}
    waits = [wait, wait | {"share": 0.02, "reached": True}]
    write_bench(tmp_path, "train", timings=[TIMING], data_waits=waits, origin={"dirty": True})
    table = build_throughput_table(tmp_path)
    assert [row[:3] for row in table.rows] == [
        ("augment: loader, raw", "5,362", "1.20 × DALI alone (wanted 0.95)"),
        ("augment: loader, jpeg", "", "1.48 × DataLoader (wanted 1.50, missed)"),
        ("communication: bytes sent by each of 8 ranks, --towers 2", "", "2.1 times fewer than copies"),
        (
            "communication: bytes sent by each of 8 ranks, --towers 2",
            "",
            "2.1 times fewer than copies (wanted 8, missed)",
        ),
        ("layers: step, bfloat16, NHWC", "1,234", "0.96 × loader"),
        ("sync: to MLflow, all points", "", "100,002 points in 12.3 s, 250 MB at most"),
        ("train: step", "1,234", "0.96 × loader"),
        ("train: both", "", "7.1% of the time waits for data (wanted below 5%, missed)"),
        ("train: both", "", "2.0% of the time waits for data (wanted below 5%)"),
    ]
    assert [row[4] for row in table.rows] == ["c0ffeec0ffee"] * 6 + ["c0ffeec0ffee + changes"] * 3
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
