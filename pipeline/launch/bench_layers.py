"""How long each layer of a network takes, beside torch's own, and what the response norms cost a training step."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.artifacts import write_bytes
from pipeline.config import ExperimentConfig
from pipeline.distributed import pick_device
from pipeline.experiments import get_experiment
from pipeline.launch.bench import (
    Origin,
    Timing,
    format_timings,
    name_device,
    read_origin,
    wait_for_device,
    write_record,
)
from pipeline.model.alexnet import AlexNet, build_alexnet
from pipeline.model.layers import CrossMapNorm, MaskDropout, WithinMapNorm, widen
from pipeline.options import LayersBenchConfig

PRECISIONS = (torch.float32, torch.bfloat16)
MEMORY_FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
STEPS = ("step without response norms", "step with torch's own norms", "step")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerTiming:
    """Forward and backward pass of one layer, and its share of those of all layers."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    milliseconds: float
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """All that was timed in one precision and memory format."""

    name: str
    layers: tuple[LayerTiming, ...]
    beside_torch: tuple[Timing, ...]
    steps: tuple[Timing, ...]
    norm_share: float
    norm_share_of_torch: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LayersBenchRecord:
    """What the JSON file holds."""

    origin: Origin
    experiment: str
    batch_size: int
    num_rounds: int
    settings: tuple[Setting, ...]


class TorchCrossMapNorm(nn.Module):
    """The same norm by torch's own layer, tower by tower, in float32, for it knows no bfloat16 on a CPU."""

    def __init__(self, norm: CrossMapNorm) -> None:
        super().__init__()
        config = norm.config
        self.norm = nn.LocalResponseNorm(config.size, alpha=config.alpha, beta=config.beta, k=config.k)
        self.towers = norm.towers

    def forward(self, images: Tensor) -> Tensor:
        """Normalise maps (N, C, H, W)."""
        return torch.cat([self.norm(part) for part in widen(images).chunk(self.towers, 1)], 1).to(images.dtype)


class TorchWithinMapNorm(nn.Module):
    """The same norm by torch's average pooling."""

    def __init__(self, norm: WithinMapNorm) -> None:
        super().__init__()
        self.config = norm.config

    def forward(self, images: Tensor) -> Tensor:
        """Normalise maps (N, C, H, W)."""
        config, wide = self.config, widen(images)
        mean_square = F.avg_pool2d(wide.square(), config.size, stride=1, padding=config.size // 2)
        return (wide * (config.k + config.alpha * mean_square).pow(-config.beta)).to(images.dtype)


def bench_layers(config: LayersBenchConfig) -> LayersBenchRecord:
    """Time every layer, its peer in torch, and training steps with and without response norms, in turns.

    Raises:
        InputError: no such experiment or device.
    """
    experiment, device = get_experiment(config.experiment).config, pick_device(config.device, 0)
    origin = read_origin(name_device(device))
    settings = [
        time_setting(config, experiment, device, dtype, memory_format)
        for dtype in PRECISIONS
        for memory_format in MEMORY_FORMATS
    ]
    record = LayersBenchRecord(
        origin=origin,
        experiment=config.experiment,
        batch_size=config.batch_size,
        num_rounds=config.num_rounds,
        settings=tuple(settings),
    )
    path = write_record(config.out, "bench-layers", origin, record)
    write_bytes(path.with_suffix(".md"), format_page(record).encode())
    print(f"{format_page(record)}\nbench: {path}")
    return record


def time_setting(
    config: LayersBenchConfig, experiment: ExperimentConfig, device: torch.device, dtype: torch.dtype, format_name: str
) -> Setting:
    """Time all variants in one precision and memory format."""
    name = f"{str(dtype).removeprefix('torch.')}, {format_name}"
    pixels, model = experiment.augment.input_pixels, experiment.model
    network = build_alexnet(model, input_pixels=pixels, seed=0)
    network.to(device=device, memory_format=MEMORY_FORMATS[format_name])  # type: ignore[call-overload]
    images = torch.randn(config.batch_size, model.in_channels, pixels, pixels, device=device)
    images = images.mul_(60).contiguous(memory_format=MEMORY_FORMATS[format_name])
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        inputs, shapes = record_inputs(network, images)
        peers = {layer: peer for layer in inputs if (peer := build_peer(network.get_submodule(layer)))}
        passes = {layer: build_pass(network.get_submodule(layer), inputs[layer]) for layer in inputs}
        passes |= {f"{layer}, torch's own": build_pass(peer, inputs[layer]) for layer, peer in peers.items()}
        norms = [layer for layer in peers if not isinstance(network.get_submodule(layer), MaskDropout)]
        if config.compile:
            for layer in norms:
                compiled = copy.deepcopy(network.get_submodule(layer))
                compiled.compile(fullgraph=True, dynamic=False)
                passes[f"{layer}, compiled"] = build_pass(compiled, inputs[layer])
        replacements: tuple[dict[str, nn.Module], ...] = (
            {norm: nn.Identity() for norm in norms},
            {norm: peers[norm] for norm in norms},
            {},
        )
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4)
        for step, replacement in zip(STEPS, replacements, strict=True):
            passes[step] = build_step(network, optimizer, images, replacement)
        seconds = time_in_turns(passes, config.num_rounds, device, name)
    layers_seconds = sum(seconds[layer] for layer in inputs)

    def compare(variant: str, other: str) -> Timing:
        return Timing(
            variant=variant,
            images_per_second=config.batch_size / seconds[variant],
            ratio=seconds[other] / seconds[variant],
            ratio_to=other,
        )

    return Setting(
        name=name,
        layers=tuple(
            LayerTiming(
                name=layer,
                kind=type(network.get_submodule(layer)).__name__,
                output_shape=shapes[layer],
                milliseconds=1000 * seconds[layer],
                share=seconds[layer] / layers_seconds,
            )
            for layer in inputs
        ),
        beside_torch=tuple(
            compare(variant, f"{layer}, torch's own")
            for layer in peers
            for variant in (layer, f"{layer}, compiled")
            if variant in passes
        ),
        steps=tuple(compare(step, STEPS[1]) for step in STEPS),
        norm_share=1 - seconds[STEPS[0]] / seconds[STEPS[2]],
        norm_share_of_torch=1 - seconds[STEPS[0]] / seconds[STEPS[1]],
    )


def record_inputs(network: AlexNet, images: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """What each layer gets, and the shape of what it makes of one picture, by the layer's name."""
    inputs, shapes = dict[str, Tensor](), dict[str, tuple[int, ...]]()
    for name, layer in network.named_children():
        inputs[name] = images.detach().requires_grad_(images.requires_grad)
        images = layer(images.clone())
        shapes[name] = tuple(images.shape[1:])
    return inputs, shapes


def build_peer(layer: nn.Module) -> nn.Module | None:
    """The same by torch's own layers, for those that torch has in another form."""
    match layer:
        case CrossMapNorm():
            return TorchCrossMapNorm(layer)
        case WithinMapNorm():
            return TorchWithinMapNorm(layer)
        case MaskDropout():
            return nn.Dropout(layer.rate)
        case _:
            return None


def build_pass(layer: nn.Module, images: Tensor) -> Callable[[], object]:
    """Forward and, where there is something to learn from it, backward pass of one layer."""
    sources = [tensor for tensor in (images, *layer.parameters()) if tensor.requires_grad]
    overwrites = getattr(layer, "inplace", False)
    gradient = torch.randn_like(layer(images.clone()))

    def run() -> object:
        output = layer(images.clone() if overwrites else images)
        return torch.autograd.grad(output, sources, gradient) if sources else output

    return run


def build_step(
    network: AlexNet, optimizer: torch.optim.SGD, images: Tensor, replacements: Mapping[str, nn.Module]
) -> Callable[[], object]:
    """Forward pass, backward pass and update, with other layers in the place of some."""

    def run() -> None:
        with replace_layers(network, replacements):
            optimizer.zero_grad(set_to_none=True)
            network(images).logsumexp(1).mean().backward()
            optimizer.step()

    return run


@contextmanager
def replace_layers(network: AlexNet, replacements: Mapping[str, nn.Module]) -> Iterator[None]:
    """Put other layers into a network for a while."""
    originals = {name: network.get_submodule(name) for name in replacements}
    for name, layer in replacements.items():
        network.set_submodule(name, layer)
    try:
        yield
    finally:
        for name, layer in originals.items():
            network.set_submodule(name, layer)


def time_in_turns(
    passes: Mapping[str, Callable[[], object]], num_rounds: int, device: torch.device, description: str
) -> dict[str, float]:
    """Median seconds of each, taking turns, so that a busy moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for number in tqdm(range(num_rounds + 1), desc=description, disable=None):
        for name, run in passes.items():
            wait_for_device(device)
            begin = time.perf_counter()
            run()
            wait_for_device(device)
            if number > 0:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def format_page(record: LayersBenchRecord) -> str:
    """All tables, in Markdown."""
    origin = record.origin
    changes = " + changes" if origin.dirty else ""
    lines = [
        "# Layers, measured\n",
        f"`{origin.command}`, commit {origin.commit[:12]}{changes}, {origin.machine}, {origin.device}.\n",
        f"{record.batch_size} pictures, forward and backward; {record.experiment}; medians of {record.num_rounds}.\n",
    ]
    for setting in record.settings:
        rows = [
            (
                layer.name,
                layer.kind,
                "×".join(map(str, layer.output_shape)),
                f"{layer.milliseconds:.2f}",
                f"{layer.share:.1%}",
            )
            for layer in setting.layers
        ]
        lines += [
            f"## {setting.name}\n",
            f"Response norms: {setting.norm_share:.1%} of a step, torch's own {setting.norm_share_of_torch:.1%}.\n",
            format_timings([*setting.steps, *setting.beside_torch], style="github"),
            "",
            tabulate(rows, ("layer", "kind", "output", "ms", "share"), "github", disable_numparse=True),
            "",
        ]
    return "\n".join(lines)
