"""The benchmark of layers: its peers compute the same, every layer is timed, and the page says what was measured."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config import ConvConfig, LinearConfig, ModelConfig, ResponseNormConfig
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.launch.bench_layers import bench_layers, build_pass, build_peer, replace_layers
from pipeline.model.alexnet import build_alexnet
from pipeline.model.layers import CrossMapNorm, MaskDropout, WithinMapNorm
from pipeline.options import LayersBenchConfig

NORM = ResponseNormConfig(size=5, alpha=0.3, beta=0.75, k=2.0)
SMALL = ModelConfig(
    convs=(ConvConfig(name="conv1", kernels=8, size=5, stride=4, padding=(0, 3), after=("lrn", "local_norm", "relu")),),
    linears=(LinearConfig(name="fc6", units=4), LinearConfig(name="fc7", units=None, after=())),
    num_classes=3,
)
LAYERS = ["conv1_pad", "conv1", "conv1_lrn", "conv1_local_norm", "conv1_relu"]
LAYERS += ["flatten", "fc6", "fc6_relu", "fc6_dropout", "fc7"]


def test_every_layer_is_timed_in_all_settings_and_shares_add_up(tmp_path: Path, monkeypatch, capsys):
    source = EXPERIMENTS["source-2012"]
    config = dataclasses.replace(
        source.config, model=SMALL, augment=dataclasses.replace(source.config.augment, crop_pixels=32)
    )
    monkeypatch.setitem(EXPERIMENTS, "small", dataclasses.replace(source, config=config))
    record = bench_layers(LayersBenchConfig(experiment="small", out=tmp_path, batch_size=2, num_rounds=1, device="cpu"))
    assert [setting.name for setting in record.settings] == [
        "float32, NCHW",
        "float32, NHWC",
        "bfloat16, NCHW",
        "bfloat16, NHWC",
    ]
    for setting in record.settings:
        assert [layer.name for layer in setting.layers] == LAYERS
        assert sum(layer.share for layer in setting.layers) == pytest.approx(1)
        assert [timing.variant for timing in setting.beside_torch] == ["conv1_lrn", "conv1_local_norm", "fc6_dropout"]
        without, torchs, whole = (2 / timing.images_per_second for timing in setting.steps)
        assert setting.norm_share == pytest.approx(1 - without / whole)
        assert setting.norm_share_of_torch == pytest.approx(1 - without / torchs)
        assert setting.steps[2].ratio == pytest.approx(torchs / whole)
    (page,), (written,) = tmp_path.glob("*.md"), tmp_path.glob("*.json")
    assert json.loads(written.read_text())["settings"][0]["layers"][1]["output_shape"] == [8, 8, 8]
    assert page.read_text().count("| conv1_lrn ") == 8
    assert page.read_text() in capsys.readouterr().out


@pytest.mark.parametrize("norm", [CrossMapNorm(NORM, 2), WithinMapNorm(NORM)], ids=str)
def test_the_peers_compute_the_same(norm):
    images = torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(0)) * 20
    torch.testing.assert_close(build_peer(norm)(images), norm(images), rtol=1e-6, atol=1e-6)


def test_dropout_has_a_peer_and_convolutions_have_none():
    assert isinstance(build_peer(MaskDropout(0.3)), nn.Dropout)
    assert build_peer(nn.Conv2d(1, 1, 1)) is None


def test_a_pass_goes_backward_through_a_relu_that_overwrites_its_input():
    images = torch.tensor([[-1.0, 2.0]], requires_grad=True)
    run = build_pass(nn.ReLU(inplace=True), images)
    for _ in range(2):
        ((gradient,),) = [run()]
        assert gradient[0, 0] == 0
        assert gradient[0, 1] != 0
    assert images.tolist() == [[-1.0, 2.0]]


def test_replaced_layers_come_back():
    network = build_alexnet(SMALL, input_pixels=32, seed=0)
    original = network.conv1_lrn
    with replace_layers(network, {"conv1_lrn": nn.Identity()}):
        assert isinstance(network.conv1_lrn, nn.Identity)
        assert [name for name, _ in network.named_children()] == LAYERS
    assert network.conv1_lrn is original


def test_what_cannot_be_timed_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="--batch-size must be positive, found 0"):
        LayersBenchConfig(batch_size=0)
    with pytest.raises(InputError, match="unknown experiment 'none'"):
        bench_layers(LayersBenchConfig(experiment="none", out=tmp_path))
