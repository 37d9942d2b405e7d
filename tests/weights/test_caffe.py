"""Caffe's AlexNet in our network: the same logits that onnxruntime's operators give with the file's own numbers."""

import numpy as np
import pytest
import torch
from caffe_files import (
    SIDE,
    WIDTH,
    build_caffe_model,
    draw_blobs,
    run_reference,
    write_blob,
    write_caffemodel,
    write_field,
)

from pipeline.errors import InputError
from pipeline.model.alexnet import build_alexnet
from pipeline.weights.caffe import read_caffe_mean
from pipeline.weights.reading import read_weights

NUM_CLASSES = 10
MODEL = build_caffe_model(width=WIDTH, num_classes=NUM_CLASSES)


@pytest.fixture(scope="module")
def blobs() -> dict[str, list[np.ndarray]]:
    return draw_blobs(WIDTH, NUM_CLASSES)


@pytest.mark.parametrize("old", [True, False])
def test_a_caffemodel_gives_the_logits_of_caffes_layers(old, blobs, tmp_path):
    path = write_caffemodel(tmp_path / "bvlc_alexnet.caffemodel", blobs, old=old)
    network = build_alexnet(MODEL, input_pixels=SIDE, seed=0).eval()
    weights = read_weights(path, MODEL, input_pixels=SIDE)
    network.load_state_dict(weights.state)
    generator = np.random.default_rng(6)
    rgb = generator.integers(0, 256, (3, 3, SIDE, SIDE)).astype(np.float32)
    mean = generator.uniform(90, 130, (3, SIDE, SIDE)).astype(np.float32)
    with torch.inference_mode():
        logits = network(torch.from_numpy(rgb - mean)).numpy()
    expected = run_reference(blobs, np.ascontiguousarray((rgb - mean)[:, ::-1]))
    assert expected.std(0).min() > 1  # every picture has logits of its own
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    assert weights.kind == "Caffe"


@pytest.mark.parametrize("old", [True, False])
def test_every_number_of_a_caffemodel_arrives_as_it_was_written(old, blobs, tmp_path):
    path = write_caffemodel(tmp_path / "a.caffemodel", blobs, old=old)
    state = read_weights(path, MODEL, input_pixels=SIDE).state
    assert list(state) == [f"{name}.{part}" for name in blobs for part in ("weight", "bias")]
    for name, (weights, biases) in blobs.items():
        expected = weights[:, ::-1] if name == "conv1" else weights
        assert np.array_equal(state[f"{name}.weight"], expected)
        assert np.array_equal(state[f"{name}.bias"], biases)


def test_the_head_can_be_left_out_where_the_classes_differ(blobs, tmp_path):
    path = write_caffemodel(tmp_path / "a.caffemodel", blobs, old=True)
    two = build_caffe_model(width=WIDTH, num_classes=2)
    state = read_weights(path, two, input_pixels=SIDE, head=False).state
    assert list(state)[-1] == "fc7.bias"
    sentence = r"a.caffemodel has fc8.weight of 10x512, expected 2x512: pass --model.num-classes 10"
    with pytest.raises(InputError, match=sentence):
        read_weights(path, two, input_pixels=SIDE)


def damage_nothing_known(content: bytes) -> bytes:
    return b"<html>moved</html>" + content


def damage_cut(content: bytes) -> bytes:
    return content[:-100]


def damage_empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_nothing_known, "is damaged, or no file that Caffe wrote"),
        (damage_cut, "is damaged, or no file that Caffe wrote"),
        (damage_empty, "has no layer with weights"),
    ],
)
def test_a_damaged_caffemodel_is_one_sentence(damage, said, blobs, tmp_path):
    path = write_caffemodel(tmp_path / "a.caffemodel", blobs, old=True)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=rf"a\.caffemodel {said}"):
        read_weights(path, MODEL, input_pixels=SIDE)


def test_a_blob_with_fewer_numbers_than_its_shape_says_is_refused(blobs, tmp_path):
    short = write_field(1, 96) + write_field(2, 3) + write_field(3, 11) + write_field(4, 11) + write_field(5, bytes(40))
    layer = write_field(4, b"conv1") + write_field(6, short)
    path = tmp_path / "a.caffemodel"
    path.write_bytes(write_field(2, layer))
    with pytest.raises(InputError, match=r"conv1.weight holds 40 bytes, which are no 96x3x11x11 float32 numbers"):
        read_weights(path, MODEL, input_pixels=SIDE)


def test_missing_and_unknown_layers_are_named(blobs, tmp_path):
    without = {name: arrays for name, arrays in blobs.items() if name != "conv3"}
    path = write_caffemodel(tmp_path / "a.caffemodel", without, old=False)
    with pytest.raises(InputError, match=r"has no conv3.weight, only conv1.weight, conv1.bias"):
        read_weights(path, MODEL, input_pixels=SIDE)
    path = write_caffemodel(tmp_path / "a.caffemodel", blobs | {"fc9": blobs["fc8"]}, old=False)
    with pytest.raises(InputError, match=r"has fc9.weight, fc9.bias, which the network lacks"):
        read_weights(path, MODEL, input_pixels=SIDE)


def test_another_networks_shapes_are_named(blobs, tmp_path):
    path = write_caffemodel(tmp_path / "a.caffemodel", blobs, old=True)
    wide = build_caffe_model(width=0.25, num_classes=NUM_CLASSES)
    with pytest.raises(InputError, match=r"a.caffemodel has conv1.weight of 12x3x11x11, expected 24x3x11x11: choose"):
        read_weights(path, wide, input_pixels=SIDE)


@pytest.mark.parametrize("old", [True, False])
def test_a_mean_image_comes_red_first(old, tmp_path):
    bgr = np.random.default_rng(8).uniform(0, 255, (1, 3, 16, 16)).astype(np.float32)
    path = tmp_path / "imagenet_mean.binaryproto"
    path.write_bytes(write_blob(bgr, old=old))
    mean = read_caffe_mean(path)
    assert (mean.shape, mean.dtype) == ((16, 16, 3), np.float32)
    for place, channel in enumerate((2, 1, 0)):
        assert np.array_equal(mean[:, :, place], bgr[0, channel])


def test_what_is_no_mean_image_is_refused(blobs, tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(write_blob(np.zeros((2, 3, 4, 4), np.float32), old=True))
    with pytest.raises(InputError, match=r"holds an array of 2x3x4x4, expected one mean image of 1x3xSIDExSIDE"):
        read_caffe_mean(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"mean.binaryproto is damaged"):
        read_caffe_mean(path)
    with pytest.raises(InputError, match=r"absent.binaryproto does not exist"):
        read_caffe_mean(tmp_path / "absent.binaryproto")
