"""Where a loss stopped being a number: the step taken again, layer by layer."""

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.augment.loader import Batch
from pipeline.config import Precision
from pipeline.model.precision import autocast
from pipeline.train.stall import watch_outputs
from pipeline.train.step import split_batch


def find_break(network: nn.Module, batch: Batch, precision: Precision, *, micro_batch: int | None = None) -> str | None:
    """Take a step's forward and backward pass again, and name the first layer with a value that is not finite.

    Args:
        network: in training mode, with the weights from before that step; gradients are left empty.
        batch: this rank's part of that step; random numbers must be seeded as for it.
        precision: arithmetic of the layers.
        micro_batch: pictures that went through the network at once.

    Returns:
        The end of a sentence, such as `the outputs of conv3`; None where all values are finite this time.
    """
    found: list[str] = []

    def note(name: str, layer: nn.Module, output: Tensor) -> None:
        if not all(parameter.isfinite().all() for parameter in layer.parameters()):
            found.append(f"the weights of {name}")
        elif not output.isfinite().all():
            found.append(f"the outputs of {name}")

    if not batch.images.isfinite().all():
        return "the images themselves"
    network.zero_grad(set_to_none=True)
    for images, labels in split_batch(batch, micro_batch):
        with watch_outputs(network, note), autocast(precision, images.device):
            logits = network.forward(images)  # and not the compiled call, which passes over hooks
        loss = F.cross_entropy(logits.float(), labels, reduction="sum")
        if not found and not loss.isfinite():
            found.append("the loss itself, of logits that are finite")
        if found:
            break
        loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in reversed(list(network.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            found.append(f"the gradient of {name}")
    network.zero_grad(set_to_none=True)
    return found[0] if found else None
