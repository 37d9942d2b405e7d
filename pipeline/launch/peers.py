"""How others turn a picture's bytes into a 256×256 JPEG, as their documentation would have it.

Needs nothing of this package, so that another environment's Python can run it:
`python peers.py NAME FOLDER ROUNDS` prints the images per second of the quickest round over the files of FOLDER.
"""

import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SIDE, QUALITY = 256, 95

Convert = Callable[[bytes], object]


def build_pillow() -> Convert:
    """Pillow: resize the whole picture, then crop; JPEG 4:4:4."""
    from PIL import Image

    def convert(content: bytes) -> bytes:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        scale = SIDE / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        buffer = io.BytesIO()
        image.crop((left, top, left + SIDE, top + SIDE)).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
        return buffer.getvalue()

    return convert


def build_torchvision() -> Convert:
    """torchvision: `io` and `transforms.v2` on one thread; its JPEGs are 4:2:0, which is less to encode."""
    import torch
    from torchvision.io import ImageReadMode, decode_image, encode_jpeg
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    transform = v2.Compose([v2.Resize(SIDE, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(SIDE)])

    def convert(content: bytes) -> object:
        image = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)
        return encode_jpeg(transform(image), quality=QUALITY)

    return convert


def build_opencv() -> Convert:
    """OpenCV: area interpolation, its means against aliasing, on one thread; JPEG 4:4:4."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]

    def convert(content: bytes) -> object:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert image is not None
        height, width = image.shape[:2]
        scale = SIDE / min(height, width)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=method)
        top, left = (image.shape[0] - SIDE) // 2, (image.shape[1] - SIDE) // 2
        return cv2.imencode(".jpg", image[top : top + SIDE, left : left + SIDE], options)[1]

    return convert


def build_img2dataset() -> Convert:
    """img2dataset's resizer; JPEG 4:2:0."""
    from img2dataset.resizer import Resizer

    resizer = Resizer(SIDE, "center_crop", resize_only_if_bigger=False, encode_quality=QUALITY)

    def convert(content: bytes) -> object:
        encoded, *_, error = resizer(io.BytesIO(content))
        assert error is None, error
        return encoded

    return convert


PEERS: dict[str, Callable[[], Convert]] = {
    "pillow": build_pillow,
    "torchvision": build_torchvision,
    "opencv": build_opencv,
    "img2dataset": build_img2dataset,
}


def time_round(convert: Convert, contents: Sequence[bytes]) -> float:
    """Seconds that all pictures take once."""
    begin = time.perf_counter()
    for content in contents:
        convert(content)
    return time.perf_counter() - begin


def main(name: str, folder: str, rounds: str) -> None:
    """Print the images per second of one peer."""
    contents = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    convert = PEERS[name]()
    print(len(contents) / min(time_round(convert, contents) for _ in range(int(rounds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
