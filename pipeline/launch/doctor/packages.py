"""Python and the packages that pyproject.toml asks for: what is installed, and whether it works for a moment."""

import io
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.launch.doctor.finding import Finding, ill, judge, skipped, well
from pipeline.options import DoctorConfig
from pipeline.provenance import PILLOW_ADVICE, is_pillow_simd

REINSTALL_ADVICE = "`make setup` installs what requirements.lock names"
SIDE_PIXELS = 64
MAX_DIFFERENCE = 4
"""Between pixels from two decoders, 0-255: none on a CPU, and little on a GPU."""
AVX2_BYTES = b"\xc4\xe2\x7d"
"""How many AVX2 instructions begin. Other builds have these bytes by chance."""
MIN_AVX2_COUNT = 100


def look_at_python(config: DoctorConfig) -> Iterator[Finding]:
    """Compare the interpreter and every package with what pyproject.toml asks for."""
    found = platform.python_version()
    try:
        asked = distribution("alexnet")
    except PackageNotFoundError:
        yield skipped("Python", f"{found}; the pipeline is not installed, so that nothing says what it needs")
        return
    wanted = SpecifierSet(asked.metadata["Requires-Python"])
    advice = "make the environment anew with a Python that fits"
    yield judge(found in wanted, "Python", f"{found}, pyproject.toml asks for {wanted}", advice)
    requirements = [Requirement(line) for line in asked.requires or []]
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = [fault for each in needed if (fault := find_fault(each))]
    found = "; ".join(wrong) or f"{len(needed)}, each as pyproject.toml asks"
    yield judge(not wrong, "packages", found, REINSTALL_ADVICE)


def find_fault(requirement: Requirement) -> str | None:
    """What is wrong with the package that is required, None if nothing is."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"{requirement.name} is {found}, expected {requirement.specifier}"


def look_at_pillow(config: DoctorConfig) -> Iterator[Finding]:
    """Which of Pillow and Pillow-SIMD is active, for what processor it was compiled, and a picture there and back.

    Installed both, the later one silently wins.
    """
    import PIL
    from PIL import Image, _imaging, features

    if not features.check("jpg"):
        advice = f"install libjpeg's headers (Debian: libjpeg-dev), then: {PILLOW_ADVICE}"
        yield ill("Pillow", f"{PIL.__version__} without JPEG", advice)
        return
    if not is_pillow_simd():
        yield ill("Pillow", f"plain Pillow {PIL.__version__} (slower resizing)", PILLOW_ADVICE)
        return
    has_avx2 = Path(_imaging.__file__).read_bytes().count(AVX2_BYTES) >= MIN_AVX2_COUNT
    may_avx2 = "avx2" in Path("/proc/cpuinfo").read_text().split()
    found = f"Pillow-SIMD {PIL.__version__}, {'AVX2' if has_avx2 else 'SSE4'}"
    if has_avx2 and not may_avx2:
        yield ill("Pillow", f"{found}, which this processor does not have", f"CC=cc; {PILLOW_ADVICE} --no-cache-dir")
        return
    with Image.open(io.BytesIO(encode_picture())) as image:
        image.convert("RGB").resize((SIDE_PIXELS // 2,) * 2, Image.Resampling.BICUBIC)
    if may_avx2 and not has_avx2:
        found += " (AVX2 resizes quicker: compile it with CC='cc -mavx2')"
    yield well("Pillow", f"{found}, libjpeg-turbo {features.version_feature('libjpeg_turbo') or 'not used'}")


def encode_picture() -> bytes:
    """A JPEG of smooth colours."""
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[:SIDE_PIXELS, :SIDE_PIXELS] * (255 // SIDE_PIXELS)
    buffer = io.BytesIO()
    pixels = np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def look_at_torchvision(config: DoctorConfig) -> Iterator[Finding]:
    """Import it and run an operator of its own, which one that was built for another torch does not have."""
    import torch
    import torchvision

    corners = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    torchvision.ops.nms(corners, torch.ones(1), 0.5)
    yield well("torchvision", str(torchvision.__version__))


def look_at_dali(config: DoctorConfig) -> Iterator[Finding]:
    """Decode a JPEG with the graph of training, on the CPU and on a GPU, and compare it with Pillow's pixels."""
    import numpy as np
    import torch
    from PIL import Image

    from pipeline.augment.dali import BatchStream, FixedViews, Graph
    from pipeline.augment.geometry import build_views
    from pipeline.config import AugmentConfig
    from pipeline.options import LoadingConfig

    encoded = encode_picture()
    with Image.open(io.BytesIO(encoded)) as image:
        expected = np.asarray(image, np.float32).transpose(2, 0, 1)
    views = build_views("center", image_pixels=SIDE_PIXELS, crop_pixels=SIDE_PIXELS)
    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    for device in devices:
        graph = Graph(
            config=AugmentConfig(crop_pixels=SIDE_PIXELS, num_offsets=1, mean="none", color_scale="none"),
            mean_image=np.zeros((SIDE_PIXELS, SIDE_PIXELS, 3), np.float32),
            raw=False,
            loading=LoadingConfig(num_threads=1),
            device=torch.device(device),
            fixed=FixedViews(views=views, offset=np.zeros(3, np.float32), divisor=np.ones(3, np.float32)),
        )
        stream = BatchStream(graph, lambda _: ([np.frombuffer(encoded, np.uint8)], None), batch_size=1)
        (images,) = stream.run(0, 1)
        difference = float(np.abs(images[0, 0].cpu().numpy() - expected).max())
        if difference > MAX_DIFFERENCE:
            found = f"decodes a JPEG on {device} to pixels that differ by up to {difference:.0f} of 255 from Pillow's"
            yield ill("DALI", found, f"{REINSTALL_ADVICE}; until then train with --decoder cpu")
            return
    yield well("DALI", f"{version('nvidia-dali-cuda130')}, decodes a JPEG on {' and '.join(devices)}")
