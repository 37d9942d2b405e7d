"""Fig. 3: what the first layer has learned, tower by tower."""

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from PIL import Image

from pipeline.artifacts import RunDirectory
from pipeline.drawing import save_svg, themed
from pipeline.model.kernels import MAGNIFICATION, draw_kernels
from pipeline.report.document import Picture, format_count
from pipeline.report.figures.names import format_label, format_name
from pipeline.report.measured import MeasuredRun, format_epochs

WIDTH_INCHES, TITLE_INCHES = 6.5, 0.35


@themed()
def build_kernels(run: MeasuredRun) -> Picture | None:
    """The kernels of a run's newest checkpoint, each stretched to the full range; None where none were saved."""
    file, towers = RunDirectory(run.path).kernels, run.record.config.model.towers
    if not file.is_file():
        return None
    kernels = torch.from_numpy(np.load(file))
    number, channels, height, width = kernels.shape
    size = f"{width}×{height} pixels in {'grey' if channels == 1 else 'colour'}"
    pictures = [draw_kernels(part, towers=1) for part in kernels.chunk(towers)]
    edge = pictures[0].height / pictures[0].width * WIDTH_INCHES + TITLE_INCHES
    figure = Figure(figsize=(WIDTH_INCHES, towers * edge), layout="constrained")
    for tower, (axes, picture) in enumerate(zip(figure.subplots(towers, 1, squeeze=False).flat, pictures, strict=True)):
        axes.imshow(clear_gaps(picture, height, width), interpolation="none")  # neither here nor in the viewer
        axes.set_axis_off()
        where = f"Tower {tower + 1} of {towers}: " if towers > 1 else ""
        axes.set_title(f"{where}{format_count(number // towers, 'kernel')} of {size}", loc="left")
    name, title = format_name("conv1", run), f"First layer of {format_label(run)}"
    epochs = format_epochs(run.num_epochs)
    caption = (
        f"{title} after {epochs} epoch{'' if epochs == '1' else 's'}, as in Fig. 3: {format_count(number, 'kernel')} "
        f"of {size}, each stretched to the full range{', tower by tower' if towers > 1 else ''}."
    )
    return Picture(name=name, caption=caption, svg=save_svg(figure, name=name, title=title, caption=caption))


def clear_gaps(picture: Image.Image, height: int, width: int) -> npt.NDArray[np.uint8]:
    """The picture of `draw_kernels` as RGBA, transparent between the kernels, for a page of any colour.

    Args:
        picture: of one tower's kernels.
        height: of a kernel, in pixels.
        width: likewise.

    Returns:
        (picture's height, its width, 4) uint8.
    """
    pixels = np.array(picture.convert("RGBA"))
    if picture.size == (width * MAGNIFICATION, height * MAGNIFICATION):  # a single kernel has no gaps
        return pixels
    rows, columns = (
        np.arange(length) // MAGNIFICATION % (edge + 1) == 0
        for length, edge in zip(pixels.shape, (height, width), strict=False)
    )
    pixels[rows, :, 3] = 0
    pixels[:, columns, 3] = 0
    return pixels
