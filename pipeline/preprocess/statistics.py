"""Mean image and colour components of the training pictures, from sums that are exact in any order (§2, §4.1)."""

import io
from dataclasses import dataclass

import mpmath
import numpy as np
import numpy.typing as npt

from pipeline.artifacts import ColorComponents

MAX_NUM_IMAGES = (2**32 - 1) // 255
PIXELS_PER_ROW = 4
"""Pixels that share a row of the matrix product, whose diagonal blocks are then added: BLAS is quickest so."""


@dataclass(kw_only=True, slots=True)
class PixelSums:
    """Integer sums over pictures, so that merging is exact and order-free.

    `image` (side, side, 3) uint32 sums each pixel, enough for 16 million pictures; `products` (3, 3) int64 sums r·g and
    its like over all pixels.
    """

    num_images: int
    image: npt.NDArray[np.uint32]
    products: npt.NDArray[np.int64]
    _rows: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, side: int) -> "PixelSums":
        """Sums over no picture of (side, side, 3)."""
        per_row = PIXELS_PER_ROW if side % 2 == 0 else 1
        return cls(
            num_images=0,
            image=np.zeros((side, side, 3), np.uint32),
            products=np.zeros((3, 3), np.int64),
            _rows=np.empty((side * side // per_row, 3 * per_row)),
        )

    def add_image(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Count one picture, (side, side, 3) uint8."""
        self.num_images += 1
        self.image += pixels
        self._rows[...] = pixels.reshape(self._rows.shape)
        grid = self._rows.T @ self._rows  # below 2^53, so float64 is exact
        blocks = grid.reshape(grid.shape[0] // 3, 3, grid.shape[0] // 3, 3)
        self.products += np.einsum("iaib->ab", blocks).astype(np.int64)

    def merge(self, other: "PixelSums") -> None:
        """Count all that `other` counted."""
        self.num_images += other.num_images
        assert self.num_images <= MAX_NUM_IMAGES
        self.image += other.image
        self.products += other.products

    def to_bytes(self) -> bytes:
        """The sums as an `.npz` file."""
        buffer = io.BytesIO()
        np.savez(buffer, num_images=self.num_images, image=self.image, products=self.products)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "PixelSums":
        """Sums that `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as arrays:
            sums = cls.empty(arrays["image"].shape[0])
            sums.num_images = int(arrays["num_images"])
            sums.image, sums.products = arrays["image"], arrays["products"]
        return sums

    def compute_mean_image(self) -> npt.NDArray[np.float32]:
        """Mean per pixel and channel: (side, side, 3) float32, 0-255."""
        return (self.image / self.num_images).astype(np.float32)

    def compute_color_components(self) -> ColorComponents:
        """Mean, covariance and principal components of the RGB values, on the 0-255 scale (§4.1)."""
        num_pixels = self.num_images * self.image.shape[0] * self.image.shape[1]
        mean = self.image.sum(axis=(0, 1), dtype=np.int64) / num_pixels
        covariance = self.products / num_pixels - np.outer(mean, mean)
        # Not LAPACK, which differs from processor to processor: in the last bits, and for grey pictures altogether.
        found = mpmath.eigsy(mpmath.matrix(covariance.tolist()))
        eigenvalues, eigenvectors = (np.array(part.tolist(), np.float64) for part in found)
        eigenvalues, eigenvectors = np.maximum(eigenvalues.ravel()[::-1], 0.0), eigenvectors[:, ::-1]
        largest = eigenvectors[np.abs(eigenvectors).argmax(axis=0), range(3)]
        return ColorComponents(
            mean=tuple(mean.tolist()),
            covariance=tuple(tuple(row) for row in covariance.tolist()),
            eigenvalues=tuple(eigenvalues.tolist()),
            eigenvectors=tuple(tuple(row) for row in (eigenvectors * np.sign(largest)).tolist()),
            standard_deviations=tuple(np.sqrt(eigenvalues).tolist()),
        )
