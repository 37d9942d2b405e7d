"""What `alexnet bench augment` writes down: rates, ratios, whether the goals were reached, and a page of it all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tabulate import tabulate

from pipeline.launch.bench import Origin, Timing
from pipeline.launch.loader_variants import EXPERIMENT, LOADERS, OURS, PLAIN_DALI, TORCH, Stored, Variant

GOAL_OVER_TORCH, GOAL_OVER_DALI = 1.5, 0.95  # set before anything was measured
SECONDS_TO_JUDGE = 4.0

Rates = Mapping[Variant, Sequence[float]]
"""Images per second of each variant, round by round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderTiming(Timing):
    """One variant with its options: rate and ratio are medians over the rounds, the latter of each round's own."""

    stored: Stored
    batch_size: int
    num_threads: int
    decoder: str
    hw_decoder_load: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """How many times as fast as a peer our loader should be, and was: the median of the rounds' ratios."""

    stored: Stored
    peer: str
    wanted: float
    measured: float
    reached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentBenchRecord:
    """What the JSON file holds."""

    origin: Origin
    pictures: str
    num_rounds: int
    seconds: float
    goals: tuple[Goal, ...]
    timings: tuple[LoaderTiming, ...]


def get_base(stored: Stored, rates: Rates) -> Variant:
    """Our loader at the options that all loaders share: the one that ratios are to."""
    return next(variant for variant in rates if variant.loader == OURS and variant.stored == stored)


def compare(variant: Variant, other: Variant, rates: Rates) -> float:
    """How many times as fast a variant is: median of the rounds' ratios, which a slow round does not change."""
    return median(rate / others for rate, others in zip(rates[variant], rates[other], strict=True))


def summarize(variant: Variant, rates: Rates) -> LoaderTiming:
    """A variant's rounds in one line."""
    return LoaderTiming(
        variant=variant.loader,
        images_per_second=median(rates[variant]),
        ratio=compare(variant, get_base(variant.stored, rates), rates),
        ratio_to=f"{OURS}, {variant.stored}",
        stored=variant.stored,
        batch_size=variant.batch_size,
        num_threads=variant.loading.num_threads,
        decoder=variant.loading.decoder,
        hw_decoder_load=variant.loading.hw_decoder_load,
        lowest=min(rates[variant]),
        highest=max(rates[variant]),
    )


def judge(rates: Rates) -> Iterator[Goal]:
    """Hold the measured ratios against the goals: the quickest DataLoader, and DALI alone."""
    for stored in dict.fromkeys(variant.stored for variant in rates):
        ours = get_base(stored, rates)
        peers = {variant.loader: variant for variant in rates if variant.stored == stored and variant.loader != OURS}
        quickest = max((peers[name] for name in TORCH if name in peers), key=lambda peer: median(rates[peer]))
        for peer, wanted in ((quickest, GOAL_OVER_TORCH), (peers[PLAIN_DALI], GOAL_OVER_DALI)):
            measured = compare(ours, peer, rates)
            yield Goal(stored=stored, peer=peer.loader, wanted=wanted, measured=measured, reached=measured >= wanted)


def format_page(record: AugmentBenchRecord) -> str:
    """Goals and tables, in Markdown."""
    shared = record.timings[0]
    beside = [timing for timing in record.timings if get_options(timing) == get_options(shared)]
    ours = [timing for timing in record.timings if timing.variant == OURS]
    return "\n".join(
        [
            "# Loading training batches, measured\n",
            f"{describe_run(record)}\n",
            "## Goals\n",
            format_goals(record.goals),
            f"\n## Beside the peers, batches of {shared.batch_size}, {shared.num_threads} threads or processes\n",
            format_rates(beside),
            "",
            *(f"- *{name}*: {LOADERS[name].description}." for name in dict.fromkeys(t.variant for t in beside)),
            "\n## This loader's options\n",
            format_rates(ours),
            "",
        ]
    )


def describe_run(record: AugmentBenchRecord) -> str:
    """Where the numbers come from, and what was measured."""
    origin = record.origin
    tools = ", ".join(f"{name} {version}" for name, version in origin.tools.items())
    commit = f"{origin.commit[:12]}{' + changes' if origin.dirty else ''}"
    too_short = record.num_rounds * record.seconds < SECONDS_TO_JUDGE
    return (
        f"`{origin.command}`, commit {commit}, {origin.device}, {origin.machine}; {tools}.\n\n"
        f"{record.pictures}. The work is that of `{EXPERIMENT}`: random patch, mirrored or not, less the mean image's "
        "centre, colours shifted, divided; float32 batches on the device. All loaders took turns, "
        f"{record.num_rounds} of {record.seconds:g} s each; rates and ratios are medians over the rounds."
        f"{' **That is too short to judge the goals by.**' if too_short else ''}"
    )


def get_options(timing: LoaderTiming) -> tuple[object, ...]:
    """What all loaders share in the comparison with the peers."""
    return timing.batch_size, timing.num_threads, timing.decoder, timing.hw_decoder_load


def format_goals(goals: Sequence[Goal]) -> str:
    """What was wanted and what was measured, as a table in Markdown."""
    rows = [
        (
            goal.stored,
            f"at least {goal.wanted:.2f} × {goal.peer}",
            f"{goal.measured:.2f}",
            "reached" if goal.reached else "**missed**",
        )
        for goal in goals
    ]
    return tabulate(rows, ("stored", f"wanted of {OURS}", "measured", ""), "github", disable_numparse=True)


def format_rates(timings: Sequence[LoaderTiming]) -> str:
    """Options and rates as a table in Markdown; a decoder stands only where there is something to decode."""
    rows = [
        (
            timing.variant,
            timing.stored,
            timing.batch_size,
            timing.num_threads,
            format_decoder(timing),
            f"{timing.images_per_second:,.0f}",
            f"{timing.lowest:,.0f}–{timing.highest:,.0f}",
            f"{timing.ratio:.2f} × {timing.ratio_to}",
        )
        for timing in timings
    ]
    headers = ("loader", "stored", "batch", "threads", "decoder", "images/s", "lowest–highest", "ratio")
    return tabulate(rows, headers, "github", disable_numparse=True)


def format_decoder(timing: LoaderTiming) -> str:
    """Where JPEGs were decoded, and how many of them by the GPU's own engine."""
    if timing.stored == "raw":
        return "none"
    return f"mixed, load {timing.hw_decoder_load:g}" if timing.decoder == "mixed" else timing.decoder
