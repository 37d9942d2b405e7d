"""Counting top-1 and top-5 errors exactly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.distributed import sum_over_ranks
from pipeline.errors import RunError

TOP = (1, 5)


def mark_errors(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mark the pictures whose label is not the likeliest, and not among the five likeliest.

    A tie counts against the label, and so does NaN: a network that says nothing gets nothing right.

    Args:
        probabilities: (N, classes) of any monotone score.
        labels: (N,) int64.

    Returns:
        (2, N) bool: top-1 and top-5 errors.
    """
    of_label = probabilities.gather(1, labels[:, None])
    beaten = (probabilities < of_label).sum(1)
    rank = probabilities.shape[1] - 1 - beaten
    silent = of_label[:, 0].isnan()
    return torch.stack([(rank >= top) | silent for top in TOP])


def count_errors(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Count what `mark_errors` marks: (2,) int64."""
    return mark_errors(probabilities, labels).sum(1)


@dataclass(kw_only=True, slots=True)
class ErrorCounts:
    """Exact counts over pictures; `log_loss_sum` sums the natural logarithms of the labels' inverse probabilities."""

    num_images: int = 0
    num_top1_errors: int = 0
    num_top5_errors: int = 0
    log_loss_sum: float = 0.0

    def add_batch(self, probabilities: Tensor, labels: Tensor) -> None:
        """Count one batch: probabilities (N, classes) and labels (N,)."""
        top1, top5 = count_errors(probabilities, labels).tolist()
        smallest = torch.finfo(torch.float32).tiny
        of_label = probabilities.gather(1, labels[:, None]).double().clamp_min(smallest)
        self.num_images += len(labels)
        self.num_top1_errors += top1
        self.num_top5_errors += top5
        self.log_loss_sum += float(-of_label.log().sum())

    def sum_over_ranks(self, device: torch.device) -> "ErrorCounts":
        """The same counts over the pictures of all ranks.

        Raises:
            RunError: there are none, for each is damaged.
        """
        values = torch.tensor(
            [self.num_images, self.num_top1_errors, self.num_top5_errors, self.log_loss_sum],
            dtype=torch.float64,
            device=device,
        )
        images, top1, top5, log_loss = sum_over_ranks(values).tolist()
        if images == 0:
            raise RunError("not one picture of the split can be decoded: see `alexnet preprocess verify` and `repair`")
        return ErrorCounts(
            num_images=round(images), num_top1_errors=round(top1), num_top5_errors=round(top5), log_loss_sum=log_loss
        )

    @property
    def top1_error(self) -> float:
        """Share of wrong first guesses."""
        return self.num_top1_errors / self.num_images

    @property
    def top5_error(self) -> float:
        """Share of labels outside the first five guesses."""
        return self.num_top5_errors / self.num_images

    @property
    def log_loss(self) -> float:
        """Mean natural logarithm of the labels' inverse probabilities."""
        return self.log_loss_sum / self.num_images
