"""The benchmark of loading: which variants it times, how it judges them, what it writes, what it refuses."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import run_command

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.distributed import World
from pipeline.errors import InputError
from pipeline.launch.bench import Origin
from pipeline.launch.bench_augment import bench_augment, time_turn
from pipeline.launch.loader_rates import AugmentBenchRecord, Rates, format_page, judge, summarize
from pipeline.launch.loader_variants import LOADERS, OURS, PLAIN_DALI, TORCH, Stored, Variant, build_variants
from pipeline.options import AugmentBenchConfig, LoadingConfig, PreprocessConfig
from pipeline.preprocess.stage import preprocess

CPU_LOADING = LoadingConfig(num_threads=2, decoder="cpu")


@pytest.fixture(scope="module")
def raw_set(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The pictures of `shard_set`, raw. Read only."""
    out = tmp_path_factory.mktemp("raw") / "set"
    preprocess(PreprocessConfig(source=pictures, out=out, images_per_shard=20, workers=2, encoding="raw"))
    return read_shard_set(out)


def build_variant(loader: str, stored: Stored = "jpeg") -> Variant:
    return Variant(loader=loader, stored=stored, batch_size=128, loading=CPU_LOADING)


def build_rates() -> Rates:
    """Five rounds, in one of which all were slow; decode_jpeg is the quicker DataLoader by its median."""
    return {
        build_variant(OURS): [300, 150, 310, 290, 300],
        build_variant(TORCH[0]): [100, 100, 100, 900, 100],
        build_variant(TORCH[1]): [200, 100, 200, 200, 200],
        build_variant(PLAIN_DALI): [330, 165, 330, 330, 330],
    }


def test_a_cpu_gets_every_loader_and_a_sweep_over_threads_up_to_its_cores():
    variants = build_variants(["jpeg", "raw"], batch_size=128, num_threads=2, num_cores=6, on_gpu=False)
    beside = [variant for variant in variants if variant.loading.num_threads == 2]
    assert {(variant.loader, variant.stored) for variant in beside} == {
        (name, stored) for name, loader in LOADERS.items() for stored in loader.stored
    }
    assert len(beside) == 11
    rest = [variant for variant in variants if variant not in beside]
    assert [(variant.loader, variant.stored, variant.loading) for variant in rest] == [
        (OURS, stored, replace(CPU_LOADING, num_threads=count)) for stored in ("jpeg", "raw") for count in (1, 4)
    ]
    assert {variant.batch_size for variant in variants} == {128}


def test_a_gpu_gets_one_option_changed_at_a_time():
    variants = build_variants(["jpeg", "raw"], batch_size=128, num_threads=16, num_cores=16, on_gpu=True)
    assert len(set(variants)) == len(variants)
    base = next(variant for variant in variants if variant.loader == OURS)
    assert (base.loading.decoder, base.loading.hw_decoder_load) == ("mixed", 0.65)
    changes: dict[str, list[object]] = {}
    for variant in variants[11:]:
        assert variant.loader == OURS
        now = (
            variant.batch_size,
            variant.loading.num_threads,
            variant.loading.decoder,
            variant.loading.hw_decoder_load,
        )
        before = (128, 16, "mixed", 0.65)
        (index,) = [index for index in range(4) if now[index] != before[index]]
        changes.setdefault(f"{variant.stored} {('batch', 'threads', 'decoder', 'load')[index]}", []).append(now[index])
    assert changes == {
        "jpeg threads": [1, 2, 4, 8],
        "jpeg decoder": ["cpu"],
        "jpeg load": [0.0, 0.5, 0.8, 1.0],
        "jpeg batch": [256, 512],
        "raw threads": [1, 2, 4, 8],
        "raw batch": [256, 512],
    }


def test_without_a_raw_set_only_jpegs_are_loaded():
    variants = build_variants(["jpeg"], batch_size=8, num_threads=1, num_cores=1, on_gpu=False)
    assert {variant.stored for variant in variants} == {"jpeg"}
    assert len(variants) == 7


def test_ratios_are_medians_of_the_rounds_so_that_a_slow_round_changes_nothing():
    rates = build_rates()
    timing = summarize(build_variant(PLAIN_DALI), rates)
    assert (timing.images_per_second, timing.lowest, timing.highest) == (330, 165, 330)
    assert timing.ratio == pytest.approx(1.1)
    assert timing.ratio_to == "this loader, jpeg"
    assert summarize(build_variant(OURS), rates).ratio == 1


def test_goals_are_held_against_the_quickest_data_loader_and_dali_alone():
    over_torch, over_dali = judge(build_rates())
    assert (over_torch.peer, over_torch.wanted, over_torch.measured, over_torch.reached) == (TORCH[1], 1.5, 1.5, True)
    assert (over_dali.peer, over_dali.wanted, over_dali.reached) == (PLAIN_DALI, 0.95, False)
    assert over_dali.measured == pytest.approx(300 / 330)
    slower = build_rates() | {build_variant(TORCH[1]): [201.0] * 5, build_variant(PLAIN_DALI): [315.0] * 5}
    assert [goal.reached for goal in judge(slower)] == [False, True]


def test_the_page_says_which_goal_was_reached_and_which_was_missed():
    rates = build_rates()
    record = AugmentBenchRecord(
        origin=Origin(
            command="alexnet bench augment", commit="0" * 40, dirty=True, machine="m", device="cpu", tools={}
        ),
        pictures="noise",
        num_rounds=5,
        seconds=1.5,
        goals=tuple(judge(rates)),
        timings=tuple(summarize(variant, rates) for variant in rates),
    )
    page = format_page(record)
    assert re.search(r"\| at least 1.50 × DataLoader, decode_jpeg +\| 1.50 +\| reached +\|", page)
    assert re.search(r"\| at least 0.95 × DALI alone +\| 0.91 +\| \*\*missed\*\* +\|", page)
    assert re.search(r"\| DALI alone +\| jpeg .*\| 330 +\| 165–330 +\| 1.10 × this loader, jpeg \|", page)
    assert f"commit {'0' * 12} + changes" in page
    assert "took turns, 5 of 1.5 s each" in page


def test_a_turn_warms_up_first_and_ends_its_loader():
    taken = []

    def load() -> Iterator[int]:
        try:
            for number in range(10**9):
                taken.append(number)
                yield number
        finally:
            taken.append(-1)

    world = World(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
    batches = load()
    assert time_turn(batches, build_variant(OURS), 0.01, world) > 0
    assert len(taken) > 2 + 2 * 2
    assert taken[-1] == -1


def test_sets_that_do_not_belong_together_are_refused(shard_set: ShardSet, raw_set: ShardSet, tmp_path: Path):
    cases = {
        f"--data {raw_set.path} is stored as raw, expected JPEG": {"data": raw_set.path},
        f"--raw-data {shard_set.path} is stored as jpeg": {"data": shard_set.path, "raw_data": shard_set.path},
        "has 48 training pictures, and the largest batch to time takes 128": {
            "data": shard_set.path,
            "batch_size": 128,
        },
    }
    for sentence, options in cases.items():
        with pytest.raises(InputError, match=re.escape(sentence)):
            bench_augment(AugmentBenchConfig(out=tmp_path, device="cpu", **options))


def test_a_raw_set_of_other_pictures_is_refused(pictures: Path, shard_set: ShardSet, tmp_path: Path):
    other = PreprocessConfig(source=pictures, out=tmp_path / "raw", encoding="raw", seed=1, workers=1)
    preprocess(other)
    with pytest.raises(
        InputError, match=r"holds other training pictures than --data .*: pack both from the same source"
    ):
        bench_augment(AugmentBenchConfig(data=shard_set.path, raw_data=other.out, out=tmp_path, device="cpu"))


@pytest.mark.parametrize("name", ["batch_size", "num_threads", "num_rounds", "seconds"])
def test_nothing_is_not_a_number_of_anything(name: str):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} must be positive, found 0"):
        AugmentBenchConfig(**{name: 0})


def test_raw_data_alone_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="--raw-data needs --data"):
        AugmentBenchConfig(raw_data=tmp_path)


@pytest.mark.slow
def test_every_variant_runs_and_is_written_down(shard_set: ShardSet, raw_set: ShardSet, tmp_path: Path):
    flags = ("--batch-size=8", "--num-threads=1", "--num-rounds=1", "--seconds=0.02", "--device=cpu")
    sets = (f"--data={shard_set.path}", f"--raw-data={raw_set.path}")
    ended = run_command("bench", "augment", *sets, f"--out={tmp_path}", *flags)
    assert ended.returncode == 0, ended.stderr
    (path,) = tmp_path.glob("bench-augment-cpu-*.json")
    record = json.loads(path.read_text())
    found = {(timing["variant"], timing["stored"]) for timing in record["timings"]}
    assert found == {(name, stored) for name, loader in LOADERS.items() for stored in loader.stored}
    assert all(0 < timing["lowest"] <= timing["highest"] for timing in record["timings"])
    assert [goal["stored"] for goal in record["goals"]] == ["jpeg", "jpeg", "raw", "raw"]
    assert "48 training pictures of 256×256, stored as jpeg of quality 95 and raw" in record["pictures"]
    assert record["origin"]["command"].startswith("alexnet bench augment --data=")
    assert path.with_suffix(".md").read_text() in ended.stdout
