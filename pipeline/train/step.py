"""One optimiser step: forward, backward, update, in the precision and the portions that are asked for."""

import math
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.augment.loader import Batch
from pipeline.config import Precision
from pipeline.evaluate.topk import count_errors
from pipeline.model.communication import CommunicationCounter
from pipeline.model.parallel import ParallelNetwork
from pipeline.model.precision import autocast
from pipeline.train.optimizer import drop_frozen_gradients, scale_by_trust


def seed_step(seed: int, *, step: int, rank: int) -> None:
    """Seed torch for one step, so that dropout is a function of (seed, step, rank) and resuming needs no generator."""
    words = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0]))


def count_parts(num_images: int, micro_batch: int | None) -> int:
    """Portions in which a rank's pictures of a step go through the network."""
    return math.ceil(num_images / (micro_batch or num_images))


def split_batch(batch: Batch, micro_batch: int | None) -> list[tuple[Tensor, Tensor]]:
    """Images and labels in portions of at most `micro_batch`; every rank has as many, whatever is damaged."""
    num_images = len(batch.labels) + batch.num_skipped
    num_parts = count_parts(num_images, micro_batch)
    return list(zip(batch.images.tensor_split(num_parts), batch.labels.tensor_split(num_parts), strict=True))


class Stepper:
    """Takes optimiser steps and never waits for the device.

    A step whose gradients are not all finite changes nothing, and in float32, tf32 and bfloat16 no step after it does:
    the network is then found as it was before that step. In float16 the scale of the loss is lowered instead.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.SGD,
        *,
        precision: Precision,
        device: torch.device,
        micro_batch: int | None = None,
        lars: float | None = None,
        shares_layers: bool = False,
        counts_bytes: bool = False,
    ) -> None:
        """Steps of a network in training mode, wrapped for data parallelism where there are several ranks.

        Args:
            network: gives logits (N, classes).
            optimizer: owns its parameters.
            precision: arithmetic of the layers.
            device: where the network is.
            micro_batch: pictures that go through the network at once, their gradients added up; None takes all.
            lars: trust coefficient of LARS; None goes without.
            shares_layers: whether ranks hold parts of layers, so that each has gradients of its own.
            counts_bytes: whether the first step counts what it sends; torch.compile passes over that step.
        """
        self.network, self.optimizer, self.precision = network, optimizer, precision
        self.micro_batch, self.lars = micro_batch, lars
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.shares_layers, self.counts_bytes = shares_layers, counts_bytes
        self.communication: CommunicationCounter | None = None
        self.broken = torch.zeros((), device=device)

    def warm_up(self, images: Tensor) -> None:
        """Pass pictures forth and back, and forget what came of them.

        DDP lays gradients out anew after its first pass, and with more than two ranks the order of summation follows
        from that layout: without this, the first step after a resume would round otherwise than the same step of a run
        that was never stopped.

        Args:
            images: as many as a rank passes at once, of any content, on the network's device.
        """
        self.network.train()
        with autocast(self.precision, images.device):
            logits = self.network(images)
        logits.float().sum().backward()
        self.optimizer.zero_grad(set_to_none=True)

    def take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step. A damaged picture that the batch lacks counts as one without a gradient.

        Args:
            batch: this rank's part of the global batch.

        Returns:
            Sum of the losses () float32 and count of top-1 errors () int64 of this rank's pictures, on the device.
        """
        if self.communication is None and self.counts_bytes:
            self.communication = CommunicationCounter()
            with self.communication:
                return self._take(batch)
        return self._take(batch)

    def _take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        num_images, parts = len(batch.labels) + batch.num_skipped, split_batch(batch, self.micro_batch)
        losses, errors = [], []
        for place, (images, labels) in enumerate(parts):
            with self._synchronize(last=place == len(parts) - 1):
                with autocast(self.precision, images.device):
                    logits = self.network(images)
                loss = F.cross_entropy(logits.float(), labels, reduction="sum")
                self.scaler.scale(loss / num_images).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            errors.append(count_errors(logits.detach(), labels)[0])
        self._update()
        return torch.stack(losses).sum(), torch.stack(errors).sum()

    def _synchronize(self, *, last: bool) -> AbstractContextManager[None]:
        """Average gradients over the ranks after the last portion only."""
        if last or not isinstance(self.network, ParallelNetwork):
            return nullcontext()
        return self.network.no_sync()

    def _update(self) -> None:
        if self.precision != "float16":
            gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
            finite = torch.stack(torch._foreach_norm(gradients)).isfinite().all()  # noqa: SLF001 - as torch's clipping
            self.broken = torch.maximum(self.broken, 1.0 - finite.float())
            if self.shares_layers:
                dist.all_reduce(self.broken, dist.ReduceOp.MAX)
            self.optimizer.found_inf = self.broken  # type: ignore[attr-defined]
        drop_frozen_gradients(self.optimizer)
        if all(parameter.grad is None for group in self.optimizer.param_groups for parameter in group["params"]):
            return
        if self.lars is not None:
            self.scaler.unscale_(self.optimizer)
            scale_by_trust(self.optimizer, self.lars)
        self.scaler.step(self.optimizer)
        self.scaler.update()
