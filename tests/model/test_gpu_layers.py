"""Norms on a GPU: those of the CPU, gradients too, in both memory formats."""

import pytest
import torch

from pipeline.config import ResponseNormConfig
from pipeline.model.layers import CrossMapNorm, WithinMapNorm

pytestmark = pytest.mark.gpu
LRN = ResponseNormConfig(size=5, alpha=1e-4, beta=0.75, k=2.0)
LOCAL = ResponseNormConfig(size=5, alpha=1e-3, beta=0.75, k=1.0)
WIDE = ResponseNormConfig(size=96, alpha=1e-2, beta=0.75, k=2.0)
NORMS = {"across": CrossMapNorm(LRN, 2), "across all": CrossMapNorm(WIDE, 1), "within": WithinMapNorm(LOCAL)}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_and_its_gradient_are_those_of_the_cpu(name, layout):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 96, 13, 13, generator=generator) * 100
    gradient = torch.randn(images.shape, generator=generator)
    found = []
    for device in ("cpu", "cuda"):
        own = images.to(device, memory_format=layout).requires_grad_()
        output = NORMS[name](own)
        output.backward(gradient.to(device))
        found.append((output.detach().cpu(), own.grad.cpu()))
    for cpu, cuda in zip(*found, strict=True):
        assert ((cuda - cpu).norm() / cpu.norm()).item() < 1e-6
