"""How fast preprocessing is: beside its peers, beside the codecs alone, and with two workers beside one."""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image
from tabulate import tabulate
from tqdm import tqdm

from pipeline import paper
from pipeline.artifacts import write_bytes
from pipeline.errors import RunError, check
from pipeline.launch import peers
from pipeline.launch.bench import Origin, Timing, format_timings, read_origin, write_record
from pipeline.launch.noise import write_noise
from pipeline.launch.stored_forms import StoredForm, format_stored_forms, measure_stored_forms
from pipeline.options import PackingConfig, PreprocessBenchConfig
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.encodings import decode_pixels
from pipeline.preprocess.images import Recipe, pack_image
from pipeline.preprocess.shards import write_shard
from pipeline.preprocess.sources import Source, read_source
from pipeline.preprocess.statistics import PixelSums

LIMIT = "codecs alone: decode, resize, encode"
JPEG_SUFFIXES = (".jpg", ".jpeg")
POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRun:
    """The whole command on so many pictures: wall-clock seconds and the most memory of all its processes, unshared."""

    workers: int
    num_images: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessBenchRecord:
    """What the JSON file holds."""

    origin: Origin
    timings: tuple[Timing, ...]
    stage_runs: tuple[StageRun, ...]
    stored_forms: tuple[StoredForm, ...]


def bench_preprocess(config: PreprocessBenchConfig) -> PreprocessBenchRecord:
    """Time one core of everything on the same pictures, then the whole stage with one and two workers.

    Raises:
        InputError: the source holds no picture.
        RunError: the stage failed.
    """
    origin = read_origin("cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = gather_pictures(config, folder)
        rates = time_variants(config, folder, contents)
        timings = [
            Timing(variant=variant, images_per_second=rate, ratio=rate / rates[LIMIT], ratio_to="codecs alone")
            for variant, rate in rates.items()
        ]
        runs = run_stages(config, folder)
        timings += compare_workers(runs, rates[LIMIT])
        record = PreprocessBenchRecord(
            origin=origin,
            timings=tuple(timings),
            stage_runs=tuple(runs),
            stored_forms=tuple(measure_stored_forms(contents)),
        )
    path = write_record(config.out, "bench-preprocess", origin, record)
    write_bytes(path.with_suffix(".md"), format_page(record).encode())
    print(f"{format_page(record)}\nbench: {path}")
    return record


def gather_pictures(config: PreprocessBenchConfig, folder: Path) -> list[bytes]:
    """Copy the sampled pictures to `folder/sampled`, a class folder each for train and val beside them.

    Raises:
        InputError: there are none.
    """
    source = config.source or folder / "noise"
    if config.source is None:
        write_noise(source, config.num_sampled)
    check(source.is_dir(), f"--source {source} is not a directory: pass a folder that holds pictures at any depth")
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix.lower() in JPEG_SUFFIXES)
    check(files, f"--source {source} holds no JPEG file: pass a folder that holds pictures at any depth")
    files = files[:: max(1, len(files) // config.num_sampled)][: config.num_sampled]  # of all classes
    for number, file in enumerate(files):
        write_bytes(folder / "sampled" / f"{number:06d}{file.suffix}", file.read_bytes())
    return [file.read_bytes() for file in files]


def repeat_pictures(sampled: Path, tree: Path, num_images: int) -> None:
    """Link the sampled pictures under new names until there are enough: one class, one of them for val."""
    files = sorted(sampled.iterdir())
    (tree / "val" / "all").mkdir(parents=True)
    (tree / "train" / "all").mkdir(parents=True)
    os.link(files[0], tree / "val" / "all" / files[0].name)
    for number in range(num_images):
        file = files[number % len(files)]
        os.link(file, tree / "train" / "all" / f"{number:07d}{file.suffix}")


def time_variants(config: PreprocessBenchConfig, folder: Path, contents: Sequence[bytes]) -> dict[str, float]:
    """Images per second of one core, by variant; rounds take turns, so that a busy moment hits all alike."""
    repeat_pictures(folder / "sampled", folder / "tree", len(contents))
    source = read_source(folder / "tree", layout="folders", val_fraction=None, seed=0, allow_partial=True)
    variants: dict[str, Callable[[], object]] = {
        LIMIT: lambda: [convert_bare(content) for content in contents],
        "codecs alone, and decode again": lambda: [decode_pixels(convert_bare(c), "jpeg") for c in contents],
        "this stage, picture by picture": lambda: [pack_image(c, name="0.jpg", recipe=RECIPE) for c in contents],
        "this stage, from file to shard": lambda: write_one_shard(source, folder),
    }
    for name in ("pillow", "torchvision", "opencv"):
        convert = peers.PEERS[name]()
        label = "Pillow loop on Pillow-SIMD" if name == "pillow" else name
        variants[label] = lambda convert=convert: peers.time_round(convert, contents)  # type: ignore[misc]
    seconds = {variant: float("inf") for variant in variants}
    for _ in tqdm(range(config.num_rounds), desc="bench", disable=None):
        for variant, run in variants.items():
            begin = time.perf_counter()
            run()
            seconds[variant] = min(seconds[variant], time.perf_counter() - begin)
    rates = {variant: len(contents) / value for variant, value in seconds.items()}
    if config.peer_python:
        rates["Pillow loop on plain Pillow"] = time_elsewhere(config, "pillow", folder)
        rates["img2dataset's resizer"] = time_elsewhere(config, "img2dataset", folder)
    return rates


RECIPE = Recipe(side=paper.IMAGE_PIXELS, resize="crop", encoding="jpeg", quality=PackingConfig().quality)


def convert_bare(content: bytes) -> bytes:
    """The library calls that cannot be done without, and nothing else."""
    image: Image.Image = Image.open(io.BytesIO(content))
    image = image if image.mode == "RGB" else image.convert("RGB")
    edge = min(image.size)
    box = ((image.width - edge) / 2, (image.height - edge) / 2, (image.width + edge) / 2, (image.height + edge) / 2)
    square = image.resize((RECIPE.side, RECIPE.side), Image.Resampling.BICUBIC, box=box)
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=RECIPE.quality, subsampling=0)
    return buffer.getvalue()


def write_one_shard(source: Source, folder: Path) -> None:
    """All that a worker does: read, pack, prove, sum, write, index and hash."""
    with ContentReader(folder / "tree", source.containers) as reader:
        write_shard(
            folder / "shard",
            "train-000000",
            "train",
            source.splits["train"],
            reader,
            RECIPE,
            sums=PixelSums.empty(RECIPE.side),
            count_image=lambda: None,
        )


def time_elsewhere(config: PreprocessBenchConfig, name: str, folder: Path) -> float:
    """Images per second of a peer that another environment holds.

    Raises:
        RunError: that environment cannot run it.
    """
    words = [str(config.peer_python), peers.__file__, name, str(folder / "sampled"), str(config.num_rounds)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RunError(f"--peer-python {config.peer_python} cannot run {name}: {ended.stderr.strip()[-300:]}")
    return float(ended.stdout.split()[-1])


def run_stages(config: PreprocessBenchConfig, folder: Path) -> list[StageRun]:
    """Run the whole command on three numbers of pictures, with one worker and with two."""
    runs = []
    for num_images in (config.num_sampled, config.num_packed // 3, config.num_packed):
        tree = folder / f"tree-{num_images}"
        if not tree.exists():
            repeat_pictures(folder / "sampled", tree, num_images)
        runs += [run_stage(tree, folder / "out", workers, num_images) for workers in (1, 2)]
    return runs


def run_stage(tree: Path, out: Path, workers: int, num_images: int) -> StageRun:
    """Run `alexnet preprocess` and watch its memory.

    Raises:
        RunError: it failed.
    """
    words = ["preprocess", "--source", str(tree), "--out", str(out), "--workers", str(workers), "--json"]
    begin, peak = time.perf_counter(), 0
    with psutil.Popen(
        [sys.executable, "-m", "pipeline", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        while process.poll() is None:
            peak = max(peak, sum(count_unshared_bytes(process)))
            time.sleep(POLL_SECONDS)
        said = process.stdout.read()
    seconds = time.perf_counter() - begin
    if process.returncode != 0:
        raise RunError(f"`alexnet {' '.join(words)}` ended with exit code {process.returncode}: run it to see why")
    assert json.loads(said)["images"]["train"] == num_images
    subprocess.run(["rm", "-r", str(out)], check=True)
    return StageRun(workers=workers, num_images=num_images, seconds=seconds, peak_bytes=peak)


def count_unshared_bytes(process: psutil.Process) -> Iterator[int]:
    """Memory that a process and each of its descendants holds for itself alone."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            yield member.memory_full_info().uss
        except psutil.Error:  # it ended meanwhile
            continue


def compare_workers(runs: Sequence[StageRun], limit: float) -> list[Timing]:
    """Rates of the whole command once it runs: what is left when its start and end, which all sizes share, go out."""
    rates = {}
    for workers in (1, 2):
        small, large = sorted((run for run in runs if run.workers == workers), key=lambda run: run.num_images)[-2:]
        rates[workers] = (large.num_images - small.num_images) / (large.seconds - small.seconds)
    return [
        Timing(
            variant="the whole command, 1 worker",
            images_per_second=rates[1],
            ratio=rates[1] / limit,
            ratio_to="codecs alone",
        ),
        Timing(
            variant="the whole command, 2 workers",
            images_per_second=rates[2],
            ratio=rates[2] / rates[1],
            ratio_to="1 worker",
        ),
    ]


def format_page(record: PreprocessBenchRecord) -> str:
    """All tables, in Markdown."""
    origin = record.origin
    runs = [
        (run.workers, f"{run.num_images:,}", f"{run.seconds:.1f}", f"{run.peak_bytes / 1e6:.0f}")
        for run in record.stage_runs
    ]
    tools = ", ".join(f"{name} {version}" for name, version in origin.tools.items())
    run_headers = ("workers", "pictures", "seconds", "peak memory, MB")
    commit = f"{origin.commit[:12]}{' + changes' if origin.dirty else ''}"
    return "\n".join(
        [
            "# Preprocessing, measured\n",
            f"`{origin.command}`, commit {commit}, {origin.machine}; {tools}.\n",
            "## One core, images per second\n",
            format_timings(list(record.timings), style="github"),
            "\n## The whole command, start and end included\n",
            tabulate(runs, run_headers, "github", disable_numparse=True),
            "\n## Stored forms of 256×256\n",
            format_stored_forms(record.stored_forms),
            "",
        ]
    )
