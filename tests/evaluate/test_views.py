"""From views to probabilities."""

import numpy as np
import torch
from torch import nn

from pipeline.augment.loader import Batch
from pipeline.evaluate.views import average_views, predict
from pipeline.model.layers import MaskDropout


def compute_softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_probabilities_are_averaged_and_not_logits():
    logits = np.random.default_rng(0).normal(0, 3, (7, 10, 6))
    averaged = average_views(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(averaged, compute_softmax(logits).mean(1), rtol=1e-5)
    assert np.abs(averaged - compute_softmax(logits.mean(1))).max() > 0.1
    np.testing.assert_allclose(averaged.sum(1), 1, rtol=1e-6)


def test_one_sure_view_outweighs_two_that_are_not():
    logits = torch.tensor([[[9.0, 0.0], [0.0, 0.4], [0.0, 0.4]]])
    (probabilities,) = average_views(logits)
    assert probabilities.argmax() == 0


def test_averages_are_float32_even_of_bfloat16():
    assert average_views(torch.zeros(1, 2, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_predictions_are_those_of_each_pictures_own_views_in_evaluation_mode():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), MaskDropout(0.5), nn.Linear(12, 4)).train()
    images = torch.randn(5, 10, 3, 2, 2)
    batches = [
        Batch(images=images[rows], labels=torch.tensor(rows) % 4, positions=np.array(rows)) for rows in ([0, 1, 2], [4])
    ]
    predictions = list(predict(network, batches, precision="float32"))
    assert network.training
    assert [prediction.positions.tolist() for prediction in predictions] == [[0, 1, 2], [4]]
    found = np.concatenate([prediction.probabilities.numpy() for prediction in predictions])
    weight, bias = (value.detach().double().numpy() for value in (network[2].weight, network[2].bias))
    views = images[[0, 1, 2, 4]].double().numpy().reshape(4, 10, 12)
    np.testing.assert_allclose(found, compute_softmax(0.5 * views @ weight.T + bias).mean(1), rtol=1e-5)
