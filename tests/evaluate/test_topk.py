"""Counting errors exactly."""

import numpy as np
import pytest
import torch

from pipeline.evaluate.topk import ErrorCounts, count_errors

NAN, INF = float("nan"), float("inf")


def count_by_sorting(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    order = np.argsort(-probabilities, axis=1)
    return [int(sum(label not in row[:top] for label, row in zip(labels, order, strict=True))) for top in (1, 5)]


@pytest.mark.parametrize("num_classes", [2, 4, 5, 6, 10, 1000])
def test_counts_are_those_of_sorting(num_classes):
    generator = np.random.default_rng(num_classes)
    scores = generator.normal(0, 1, (500, num_classes))
    labels = generator.integers(0, num_classes, 500)
    found = count_errors(torch.from_numpy(scores), torch.from_numpy(labels))
    assert found.dtype == torch.int64
    assert found.tolist() == count_by_sorting(scores, labels)


@pytest.mark.parametrize(
    ("scores", "label", "errors"),
    [
        ([0.4, 0.6], 1, [0, 0]),
        ([0.5, 0.5], 0, [1, 0]),  # a tie is no first place
        ([0.5, 0.5], 1, [1, 0]),
        ([0.1, 0.1, 0.2, 0.3, 0.3], 0, [1, 0]),  # any order of five classes holds the label
        ([0.3, 0.2, 0.1, 0.1, 0.1, 0.1], 2, [1, 1]),  # a tie for places three to six
        ([0.3, 0.2, 0.1, 0.1, 0.1, 0.0], 2, [1, 0]),
        ([1 / 10] * 10, 3, [1, 1]),
        ([INF, 0.0, 0.0, 0.0, 0.0, 0.0], 0, [0, 0]),
        ([NAN] * 10, 3, [1, 1]),
        ([NAN] * 4, 3, [1, 1]),
        ([NAN, 0.9, 0.0, 0.0, 0.0, 0.0], 0, [1, 1]),
        ([NAN, 0.9, 0.0, 0.0, 0.0, 0.0], 1, [1, 0]),
    ],
)
def test_ties_and_nan_count_against_the_label(scores, label, errors):
    assert count_errors(torch.tensor([scores]), torch.tensor([label])).tolist() == errors


def test_batches_add_up_to_the_whole():
    generator = np.random.default_rng(0)
    probabilities = torch.from_numpy(generator.dirichlet(np.full(10, 0.3), 100)).float()
    labels = torch.from_numpy(generator.integers(0, 10, 100))
    counts = ErrorCounts()
    for rows in torch.arange(100).split(17):
        counts.add_batch(probabilities[rows], labels[rows])
    top1, top5 = count_by_sorting(probabilities.numpy(), labels.numpy())
    assert 0 < top5 < top1 < 100
    assert (counts.num_images, counts.num_top1_errors, counts.num_top5_errors) == (100, top1, top5)
    assert (counts.top1_error, counts.top5_error) == (top1 / 100, top5 / 100)
    log_loss = -np.log(probabilities.double().numpy()[np.arange(100), labels.numpy()]).mean()
    assert counts.log_loss == pytest.approx(log_loss, rel=1e-12)
    assert counts.sum_over_ranks(torch.device("cpu")) == counts


def test_a_probability_of_zero_costs_much_but_not_everything():
    counts = ErrorCounts()
    counts.add_batch(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert counts.log_loss == pytest.approx(126 * np.log(2))
