"""The recipes of the contrast: how each differs from a registered experiment."""

from dataclasses import dataclass

from pipeline.options import RecipeName


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way to train the network."""

    experiment: str
    """What it is registered as."""
    flags: tuple[str, ...]
    """Of `alexnet train`, beside the size."""
    words: str
    """What it is, for the table."""


SOURCE_ORDER = (
    "as the winning code: layer 1 norm → pooling → ReLU, a norm within maps in layer 2, σ 0.03 on conv3–5, biases 1, "
    "biases at twice the rate without decay"
)
TEXT_ORDER = "as the paper's text: ReLU → norm → pooling, one rate 0.01, decay on all; dropout scaled up in training"
WIDE_START = tuple(f"--model.convs.{i}.weight-std=0.03" for i in (2, 3, 4))
SMALL_BIASES = tuple(
    f"--model.{layer}.bias=0.1" for layer in ("convs.1", "convs.3", "convs.4", "linears.0", "linears.1")
)


def set_rates(weights: float, biases: float) -> tuple[str, ...]:
    """Flags for constant rates."""
    return ("--schedule.weights", "0", f"{weights:g}", "--schedule.biases", "0", f"{biases:g}")


RECIPES: dict[RecipeName, Recipe] = {
    "source": Recipe(
        experiment="source-2012",
        flags=set_rates(0.0025, 0.005),
        words=f"{SOURCE_ORDER}; dropout as a bare mask; rate 0.0025",
    ),
    "source-rate-0.01": Recipe(
        experiment="source-2012",
        flags=set_rates(0.01, 0.02),
        words="`source` at the rate 0.01",
    ),
    "source-inverted-dropout": Recipe(
        experiment="source-2012",
        flags=(*set_rates(0.0025, 0.005), "--model.inverted-dropout"),
        words="`source` with dropout scaled up in training instead of down in evaluation",
    ),
    "text": Recipe(
        experiment="paper",
        flags=("--model.inverted-dropout",),
        words=f"{TEXT_ORDER}; σ 0.01 everywhere, biases 1",
    ),
    "text-std-0.03": Recipe(
        experiment="paper",
        flags=("--model.inverted-dropout", *WIDE_START),
        words="`text` with σ 0.03 on conv3–5",
    ),
    "text-std-0.03-bias-0.1": Recipe(
        experiment="paper",
        flags=("--model.inverted-dropout", *WIDE_START, *SMALL_BIASES),
        words="`text` with σ 0.03 on conv3–5, and biases 0.1 where they are 1",
    ),
}
