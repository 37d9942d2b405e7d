"""Mean image and colour components against float64 NumPy over all pixels at once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.preprocess.statistics import PixelSums

SIDE = 16


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """(23, 16, 16, 3) uint8 with correlated channels of different spread."""
    generator = np.random.default_rng(3)
    mixing = np.array([[60.0, 10, 5], [40, 25, 5], [30, 5, 12]])
    values = generator.normal(size=(23, SIDE, SIDE, 3)) @ mixing.T + [110, 120, 130]
    return np.clip(values, 0, 255).astype(np.uint8)


def count(images: np.ndarray) -> PixelSums:
    sums = PixelSums.empty(SIDE)
    for image in images:
        sums.add_image(image)
    return sums


def test_mean_image_is_the_mean_over_pictures_of_each_pixel_and_channel(images):
    mean = count(images).compute_mean_image()
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, images.astype(np.float64).mean(axis=0), rtol=1e-6)


def test_colour_mean_and_covariance_are_those_of_all_pixels(images):
    components = count(images).compute_color_components()
    pixels = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(components.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(components.covariance, np.cov(pixels.T, bias=True), rtol=1e-9)


def test_eigenvectors_are_orthonormal_and_rebuild_the_covariance_from_falling_eigenvalues(images):
    components = count(images).compute_color_components()
    vectors, values = np.array(components.eigenvectors), np.array(components.eigenvalues)
    assert values[0] > values[1] > values[2] > 0
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, components.covariance, rtol=1e-9)
    for axis in vectors.T:
        assert axis[np.abs(axis).argmax()] > 0  # the sign is fixed, so that files repeat


def test_sums_do_not_depend_on_order_or_on_how_the_pictures_were_split(images):
    whole = count(images)
    for cuts in ((7,), (1, 2, 20), (5, 10, 15)):
        parts = [count(part) for part in np.split(images[np.random.default_rng(5).permutation(len(images))], cuts)]
        merged = PixelSums.empty(SIDE)
        for part in reversed(parts):
            merged.merge(part)
        assert merged.num_images == whole.num_images == len(images)
        np.testing.assert_array_equal(merged.image, whole.image)
        np.testing.assert_array_equal(merged.products, whole.products)
        assert merged.compute_color_components() == whole.compute_color_components()


def test_one_colour_has_no_negative_eigenvalue():
    components = count(np.full((3, SIDE, SIDE, 3), [10, 200, 33], np.uint8)).compute_color_components()
    assert components.mean == (10.0, 200.0, 33.0)
    assert min(components.eigenvalues) >= 0
    assert max(components.eigenvalues) < 1e-8


def test_white_pictures_of_full_size_are_summed_exactly():
    sums = PixelSums.empty(256)
    white = np.full((256, 256, 3), 255, np.uint8)
    for _ in range(3):
        sums.add_image(white)
    assert (sums.image == 3 * 255).all()
    assert (sums.products == 3 * 256 * 256 * 255**2).all()


def test_standard_deviations_are_those_of_the_projections_on_the_eigenvectors(images):
    components = count(images).compute_color_components()
    projections = images.reshape(-1, 3).astype(np.float64) @ np.array(components.eigenvectors)
    np.testing.assert_allclose(components.standard_deviations, projections.std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("side", [1, 7, 16])
def test_sums_are_exact_for_every_side(side):
    pictures = np.random.default_rng(1).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    sums = PixelSums.empty(side)
    for picture in pictures:
        sums.add_image(picture)
    flat = pictures.reshape(-1, 3).astype(np.int64)
    np.testing.assert_array_equal(sums.products, flat.T @ flat)
    np.testing.assert_array_equal(sums.image, pictures.astype(np.int64).sum(axis=0))


def test_sums_survive_their_file(images):
    sums = count(images)
    found = PixelSums.from_bytes(sums.to_bytes())
    assert found.num_images == sums.num_images
    np.testing.assert_array_equal(found.image, sums.image)
    np.testing.assert_array_equal(found.products, sums.products)
    found.merge(sums)
    assert found.compute_color_components() == sums.compute_color_components()
    assert sums.to_bytes() == count(images).to_bytes()


@pytest.mark.parametrize(
    ("processor", "instructions"), [("Haswell", "avx2"), ("SkylakeX", "avx512f"), ("Zen", "avx2"), ("Prescott", "pni")]
)
def test_grey_and_coloured_statistics_are_the_same_on_every_processor(images, processor, instructions):
    if instructions not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this processor has no {instructions}")
    code = (
        "import numpy as np, sys; from pipeline.preprocess.statistics import PixelSums\n"
        "for seed in range(20):\n"
        "    pictures = np.random.default_rng(seed).integers(0, 256, (3, 16, 16, 3), np.uint8)\n"
        "    for pixels in (pictures, np.repeat(pictures[..., :1], 3, axis=3)):\n"
        "        sums = PixelSums.empty(16)\n"
        "        for picture in pixels: sums.add_image(picture)\n"
        "        print(sums.compute_color_components())\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OPENBLAS_CORETYPE": name},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in ("Sandybridge", processor)
    ]
    assert said[0] == said[1]
    assert said[0].count("ColorComponents") == 40
