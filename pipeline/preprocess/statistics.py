"""Mean image and colour components of the training pictures, from sums that are exact in any order (§2, §4.1)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.artifacts import ColorComponents


@dataclass(kw_only=True, slots=True)
class PixelSums:
    """Integer sums over pictures; 64 bits hold ImageNet's 200 times over, so merging is exact and order-free.

    `image` (side, side, 3) int64 sums each pixel, `products` (3, 3) int64 sums r·g and its like over all pixels.
    """

    num_images: int
    image: npt.NDArray[np.int64]
    products: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, side: int) -> "PixelSums":
        """Sums over no picture."""
        return cls(num_images=0, image=np.zeros((side, side, 3), np.int64), products=np.zeros((3, 3), np.int64))

    def add_image(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Count one picture, (side, side, 3) uint8."""
        self.num_images += 1
        self.image += pixels
        rgb = pixels.reshape(-1, 3).astype(np.float64)
        self.products += (rgb.T @ rgb).astype(np.int64)  # below 2^53, so float64 is exact

    def merge(self, other: "PixelSums") -> None:
        """Count all that `other` counted."""
        self.num_images += other.num_images
        self.image += other.image
        self.products += other.products

    def compute_mean_image(self) -> npt.NDArray[np.float32]:
        """Mean per pixel and channel: (side, side, 3) float32, 0-255."""
        return (self.image / self.num_images).astype(np.float32)

    def compute_color_components(self) -> ColorComponents:
        """Mean, covariance and principal components of the RGB values, on the 0-255 scale (§4.1)."""
        num_pixels = self.num_images * self.image.shape[0] * self.image.shape[1]
        mean = self.image.sum(axis=(0, 1)) / num_pixels
        covariance = self.products / num_pixels - np.outer(mean, mean)
        eigenvalues, eigenvectors = np.linalg.eigh(covariance)
        order = np.argsort(eigenvalues)[::-1]
        eigenvectors = eigenvectors[:, order]
        largest = eigenvectors[np.abs(eigenvectors).argmax(axis=0), range(3)]
        return ColorComponents(
            mean=tuple(mean.tolist()),
            covariance=tuple(tuple(row) for row in covariance.tolist()),
            eigenvalues=tuple(np.maximum(eigenvalues[order], 0.0).tolist()),
            eigenvectors=tuple(tuple(row) for row in (eigenvectors * np.sign(largest)).tolist()),
        )
