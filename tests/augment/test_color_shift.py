"""Colour shifts: axes from the formulas, moments of the draws from the axes."""

import numpy as np
import pytest

from pipeline.artifacts import ColorComponents
from pipeline.augment.color import build_color_statistics, sample_color_shifts
from pipeline.config import AugmentConfig

COVARIANCE = np.array([[4900.0, 4200, 3800], [4200, 4600, 4300], [3800, 4300, 5300]])


@pytest.fixture(scope="module")
def components() -> ColorComponents:
    values, vectors = np.linalg.eigh(COVARIANCE)
    return ColorComponents(
        mean=(120.0, 115.0, 104.0),
        covariance=tuple(map(tuple, COVARIANCE.tolist())),
        eigenvalues=tuple(values[::-1].tolist()),
        eigenvectors=tuple(map(tuple, vectors[:, ::-1].tolist())),
        standard_deviations=tuple(np.sqrt(values[::-1]).tolist()),
    )


def build_axes(components: ColorComponents, scale: str) -> np.ndarray:
    return build_color_statistics(components, AugmentConfig(color_scale=scale)).axes


def test_axes_by_standard_deviation_rebuild_the_covariance(components):
    axes = build_axes(components, "std")
    np.testing.assert_allclose(axes @ axes.T, COVARIANCE, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=0), np.sqrt(components.eigenvalues), rtol=1e-10)


def test_axes_by_eigenvalue_are_those_of_pixels_between_0_and_1_brought_back_to_255(components):
    axes = build_axes(components, "eigenvalue")
    values, vectors = np.linalg.eigh(COVARIANCE / 255**2)  # the covariance of pixels / 255
    for axis, value, vector in zip(axes.T, values[::-1], vectors.T[::-1], strict=True):
        np.testing.assert_allclose(np.abs(axis), np.abs(255 * value * vector), rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=0), np.array(components.eigenvalues) / 255, rtol=1e-10)


def test_no_colour_means_no_axes_and_no_shift(components):
    axes = build_axes(components, "none")
    assert (axes == np.zeros((3, 3))).all()
    assert (sample_color_shifts(10, axes, std=0.1, seed=0, epoch=0) == 0).all()


@pytest.mark.parametrize("scale", ["std", "eigenvalue"])
def test_shifts_have_mean_zero_and_the_covariance_that_the_axes_say(components, scale):
    axes, std, num_images = build_axes(components, scale), 0.1, 200_000
    shifts = sample_color_shifts(num_images, axes, std=std, seed=0, epoch=0)
    assert (shifts.shape, shifts.dtype) == ((num_images, 3), np.float32)
    expected = std**2 * axes @ axes.T
    shifts = shifts.astype(np.float64)
    np.testing.assert_allclose(np.cov(shifts.T), expected, rtol=0.02)
    assert (np.abs(shifts.mean(axis=0)) < 4 * np.sqrt(np.diag(expected) / num_images)).all()


def test_coefficients_along_the_axes_are_independent_and_normal(components):
    axes = build_axes(components, "std")
    coefficients = np.linalg.solve(axes, sample_color_shifts(100_000, axes, std=0.1, seed=4, epoch=2).T).T
    np.testing.assert_allclose(coefficients.std(axis=0), 0.1, rtol=0.01)
    np.testing.assert_allclose(np.corrcoef(coefficients.T), np.eye(3), atol=0.015)
    np.testing.assert_allclose((coefficients**4).mean(axis=0), 3 * 0.1**4, rtol=0.05)


def test_shifts_are_functions_of_seed_and_epoch_and_vanish_at_std_0(components):
    axes = build_axes(components, "std")
    draws = [
        sample_color_shifts(5, axes, std=0.1, seed=seed, epoch=epoch).tobytes() for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len(set(draws)) == 4
    assert sample_color_shifts(5, axes, std=0.1, seed=1, epoch=1).tobytes() == draws[-1]
    assert (sample_color_shifts(5, axes, std=0.0, seed=0, epoch=0) == 0).all()


def test_published_statistics_are_those_of_imagenet_on_255(components):
    published = build_color_statistics(components, AugmentConfig(statistics="imagenet"))
    np.testing.assert_allclose(published.mean, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(published.std, [58.395, 57.12, 57.375])
    np.testing.assert_allclose(
        np.linalg.norm(published.axes, axis=0), 255 * np.sqrt([0.2175, 0.0188, 0.0045]), rtol=1e-4
    )
    config = AugmentConfig(statistics="imagenet", gray=True, color_scale="none")
    gray = build_color_statistics(components, config)
    np.testing.assert_allclose(gray.mean, [0.299 * 123.675 + 0.587 * 116.28 + 0.114 * 103.53])


def test_luminance_has_the_deviation_that_the_covariance_gives_it(components):
    gray = build_color_statistics(components, AugmentConfig(gray=True, color_scale="none"))
    generator = np.random.default_rng(3)
    pixels = generator.multivariate_normal(components.mean, COVARIANCE, 400_000) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose([gray.mean[0], gray.std[0]], [pixels.mean(), pixels.std()], rtol=0.005)
