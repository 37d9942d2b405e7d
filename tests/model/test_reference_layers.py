"""The network's layers beside those of OpenCV and of onnxruntime, on the same weights."""

from collections.abc import Callable

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from pipeline.config import ConvConfig, LinearConfig, ModelConfig, ResponseNormConfig
from pipeline.model.alexnet import AlexNet, build_alexnet
from pipeline.model.layers import CrossMapNorm

LRN = ResponseNormConfig(size=5, alpha=0.02, beta=0.75, k=2.0)


def draw(*shape: int, scale: float = 1.0, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def run_onnxruntime(model: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0]


def run_opencv(model: bytes, images: np.ndarray) -> np.ndarray:
    network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    network.setInput(images)
    return network.forward()


@pytest.fixture(params=[run_onnxruntime, run_opencv], ids=["onnxruntime", "opencv"])
def run(request) -> Callable[..., np.ndarray]:
    """What a library makes of a graph from `x` to `y` with these weights."""

    def run_graph(nodes, weights, images, *, rank=4):
        graph = helper.make_graph(
            nodes,
            "layers",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, images.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"side_{number}" for number in range(rank)])],
            [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return request.param(model.SerializeToString(), images)

    return run_graph


def make_lrn(source: str, target: str, config: ResponseNormConfig) -> onnx.NodeProto:
    return helper.make_node(
        "LRN", [source], [target], size=config.size, alpha=config.alpha, beta=config.beta, bias=config.k
    )


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_cross_map_norm_is_the_lrn_of_another_library(size, run):
    images = draw(2, 14, 6, 5, scale=20)
    config = ResponseNormConfig(size=size, alpha=0.3, beta=0.75, k=2.0)
    expected = run([make_lrn("x", "y", config)], {}, images)
    np.testing.assert_allclose(CrossMapNorm(config, 1)(torch.from_numpy(images)), expected, rtol=1e-4)


def test_a_norm_of_two_towers_is_that_of_another_library_on_each_half(run):
    images = draw(2, 14, 6, 5, scale=20)
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1),
        make_lrn("a", "c", LRN),
        make_lrn("b", "d", LRN),
        helper.make_node("Concat", ["c", "d"], ["y"], axis=1),
    ]
    np.testing.assert_allclose(CrossMapNorm(LRN, 2)(torch.from_numpy(images)), run(nodes, {}, images), rtol=1e-4)


@pytest.mark.parametrize("name", ["conv2", "conv3"])
def test_convolutions_are_those_of_another_library_grouped_or_not(name, run):
    network = build_network()
    layer = network.get_submodule(name)
    images = draw(2, layer.in_channels, 9, 9)
    attributes = {"group": layer.groups, "pads": [*layer.padding] * 2, "strides": [*layer.stride]}
    weights = {"w": layer.weight.detach().numpy(), "b": layer.bias.detach().numpy()}
    expected = run([helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)], weights, images)
    np.testing.assert_allclose(layer(torch.from_numpy(images)).detach(), expected, rtol=1e-4, atol=1e-5)


def build_network() -> AlexNet:
    """Two towers with all of a real network's kinds of layers but the norm within maps, which ONNX lacks."""
    convs = (
        ConvConfig(name="conv1", kernels=8, size=5, stride=2, padding=(0, 2), after=("lrn", "pool", "relu")),
        ConvConfig(name="conv2", kernels=12, size=3, padding=(1, 1), groups=2, after=("relu", "lrn")),
        ConvConfig(name="conv3", kernels=8, size=3, padding=(1, 1), after=("relu", "pool")),
    )
    linears = (LinearConfig(name="fc6", units=20), LinearConfig(name="fc7", units=None, after=()))
    config = ModelConfig(convs=convs, linears=linears, num_classes=7, lrn=LRN)
    network = build_alexnet(config, input_pixels=33, seed=0).eval()
    for number, parameter in enumerate(network.parameters()):
        nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
    return network


def build_nodes(network: AlexNet) -> list:
    """The same network in the words of ONNX, layer by layer."""
    nodes, source = [], "x"
    for name, layer in network.named_children():
        target = "y" if name == "fc7" else f"{name}_output"
        parameters = [source, f"{name}.weight", f"{name}.bias"]
        match layer:
            case nn.ZeroPad2d():
                continue  # in the convolution's own pads below
            case nn.Conv2d():
                before, after = (0, 2) if name == "conv1" else (layer.padding[0],) * 2
                pads, strides = [before, before, after, after], [*layer.stride]
                nodes.append(
                    helper.make_node("Conv", parameters, [target], pads=pads, strides=strides, group=layer.groups)
                )
            case nn.Linear():
                nodes.append(helper.make_node("Gemm", parameters, [target], transB=1))
            case nn.ReLU():
                nodes.append(helper.make_node("Relu", [source], [target]))
            case nn.MaxPool2d():
                nodes.append(helper.make_node("MaxPool", [source], [target], kernel_shape=[3, 3], strides=[2, 2]))
            case nn.Flatten():
                nodes.append(helper.make_node("Flatten", [source], [target]))
            case CrossMapNorm():
                halves = [f"{name}_{half}" for half in ("a", "b", "c", "d")]
                nodes.append(helper.make_node("Split", [source], halves[:2], axis=1))
                nodes += [make_lrn(halves[half], halves[half + 2], LRN) for half in (0, 1)]
                nodes.append(helper.make_node("Concat", halves[2:], [target], axis=1))
            case _:  # dropout in evaluation: times the keep probability
                nodes.append(helper.make_node("Mul", [source, "keep"], [target]))
        source = target
    return nodes


def test_a_whole_network_gives_the_logits_of_another_library(run):
    network, images = build_network(), draw(3, 3, 33, 33, scale=5)
    weights = {name: value.numpy() for name, value in network.state_dict().items()} | {"keep": np.float32(0.5)}
    expected = run(build_nodes(network), weights, images, rank=2)
    logits = network(torch.from_numpy(images)).detach().numpy()
    assert expected.shape == (3, 7)
    assert np.abs(expected).mean() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
