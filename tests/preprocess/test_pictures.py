"""The pictures that people look at: every number and pixel in them is the one that was given."""

import base64
import io
import itertools
import os
import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import ColorComponents
from pipeline.preprocess.pictures import draw_contact_sheet, draw_statistics
from pipeline.preprocess.statistics import PixelSums

SVG = "{http://www.w3.org/2000/svg}"
WHITE = 0xFFFFFF


def build_statistics(side: int = 8, num_images: int = 5) -> tuple[np.ndarray, ColorComponents]:
    """Of pictures whose colours reach both ends of the scale."""
    sums = PixelSums.empty(side)
    generator = np.random.default_rng(3)
    for _ in range(num_images):
        grey = generator.integers(0, 226, (side, side, 1))
        sums.add_image((grey + generator.integers(0, [30, 10, 20], (side, side, 3))).astype(np.uint8))
    return sums.compute_mean_image(), sums.compute_color_components()


def list_texts(svg: bytes) -> list[str]:
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def read_embedded(svg: bytes) -> np.ndarray:
    image = next(ET.fromstring(svg).iter(f"{SVG}image"))
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(image.get("href").removeprefix("data:image/png;base64,"))))
    )


def test_each_strip_holds_the_mean_colour_moved_along_an_eigenvector_by_half_standard_deviations_and_clipped():
    mean_image, color = build_statistics()
    swatches = [
        element
        for element in ET.fromstring(draw_statistics(mean_image, color)).iter(f"{SVG}rect")
        if element.get("fill").startswith("#")
    ]
    rows = sorted({float(swatch.get("y")) for swatch in swatches})
    assert len(rows) == 3
    clipped = 0
    for component, y in enumerate(rows):
        strip = sorted(
            (float(swatch.get("x")), swatch.get("fill")) for swatch in swatches if float(swatch.get("y")) == y
        )
        assert len(strip) == 13
        for number, (_, fill) in enumerate(strip):
            factor = -3 + number / 2
            for channel in range(3):
                shift = factor * color.standard_deviations[component] * color.eigenvectors[channel][component]
                expected = min(max(color.mean[channel] + shift, 0), 255)
                assert int(fill[1 + 2 * channel : 3 + 2 * channel], 16) == pytest.approx(expected, abs=0.51)
                clipped += expected in (0, 255)
    assert clipped > 0


def test_the_strips_say_standard_deviation_share_and_eigenvector():
    mean_image, color = build_statistics()
    texts = " ".join(list_texts(draw_statistics(mean_image, color))).replace("−", "-")
    deviations = [float(found) for found in re.findall(r"\d: standard deviation ([\d.]+)", texts)]
    np.testing.assert_allclose(deviations, color.standard_deviations, atol=0.005)
    shares = [float(found) for found in re.findall(r"([\d.]+)% of the variance", texts)]
    np.testing.assert_allclose(shares, 100 * np.array(color.eigenvalues) / sum(color.eigenvalues), atol=0.05)
    vectors = [[float(value) for value in found.split(",")] for found in re.findall(r"eigenvector \((.*?)\)", texts)]
    np.testing.assert_allclose(np.transpose(vectors), color.eigenvectors, atol=0.0005)


def test_the_channels_stand_at_their_mean_and_standard_deviation_on_a_scale_from_0_to_255():
    sums = PixelSums.empty(8)
    for level in (0, 0, 0, 250):  # a mean of 62.5, less than the standard deviation of 108.3
        sums.add_image(np.full((8, 8, 3), level, np.uint8) + np.array([5, 0, 0], np.uint8))
    svg = draw_statistics(sums.compute_mean_image(), sums.compute_color_components())
    assert [text for text in list_texts(svg) if text[:2] in ("R:", "G:", "B:")] == [
        "R: mean 67.5, standard deviation 108.3",
        "G: mean 62.5, standard deviation 108.3",
        "B: mean 62.5, standard deviation 108.3",
    ]
    root = ET.fromstring(svg)
    assert [float(circle.get("cx")) for circle in root.iter(f"{SVG}circle")] == [67.5, 62.5, 62.5]
    ranges = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("stroke-width")]
    assert [re.findall(r"[\d.]+", d)[::2] for d in ranges] == [["0.0", "175.8"], ["0.0", "170.8"], ["0.0", "170.8"]]
    levels = {text.text: float(text.get("x")) for text in root.iter(f"{SVG}text") if (text.text or "").isdigit()}
    assert levels == {"0": 0, "64": 64, "128": 128, "192": 192, "255": 255}


@pytest.mark.parametrize("side", [8, 256])
def test_the_mean_image_is_in_the_figure_pixel_by_pixel(side):
    mean_image, color = build_statistics(side)
    svg = draw_statistics(mean_image, color)
    np.testing.assert_array_equal(read_embedded(svg), np.rint(mean_image))
    assert f"{side}×{side}, values {mean_image.min():.1f} to {mean_image.max():.1f} of 0–255" in list_texts(svg)


def test_a_large_mean_image_is_reduced_so_that_the_figure_stays_small():
    mean_image = np.full((1024, 1024, 3), 50, np.float32)
    mean_image[:, 512:] = 200
    embedded = read_embedded(draw_statistics(mean_image, build_statistics()[1]))
    assert embedded.shape == (256, 256, 3)
    assert (embedded[:, :120] == 50).all()
    assert (embedded[:, -120:] == 200).all()


def test_pictures_of_a_single_colour_have_strips_of_that_colour():
    sums = PixelSums.empty(8)
    sums.add_image(np.full((8, 8, 3), (10, 20, 255), np.uint8))
    svg = draw_statistics(sums.compute_mean_image(), sums.compute_color_components())
    fills = [rect.get("fill") for rect in ET.fromstring(svg).iter(f"{SVG}rect")]
    assert fills.count("#0a14ff") == 39
    assert "1: standard deviation 0.00, 0.0% of the variance" in list_texts(svg)


def test_the_figure_lies_on_white_and_nothing_of_it_lies_outside():
    root = ET.fromstring(draw_statistics(*build_statistics()))
    width, height = float(root.get("width")), float(root.get("height"))
    ground = root.find(f"{SVG}rect")
    assert (ground.get("fill"), float(ground.get("width")), float(ground.get("height"))) == ("white", width, height)
    for group in root.iter(f"{SVG}g"):
        left, top = map(float, re.findall(r"[\d.]+", group.get("transform")))
        for element in group:
            right = left + float(element.get("x", 0)) + float(element.get("width", 0))
            bottom = top + float(element.get("y", 0)) + float(element.get("height", 0))
            assert 0 < right < width
            assert 0 < bottom < height


STATISTICS_SCRIPT = """
import sys
from test_pictures import build_statistics, draw_statistics
sys.stdout.buffer.write(draw_statistics(*build_statistics()))
assert "matplotlib" not in sys.modules, "half a second for every merge"
"""


def run_script(script: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])} | env  # noqa: PTH120
    return subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=environment)


def test_the_same_numbers_give_the_same_bytes_in_another_process_without_matplotlib():
    ended = run_script(STATISTICS_SCRIPT, PYTHONHASHSEED="5")
    assert ended.stdout == draw_statistics(*build_statistics())


def paint_noise(side: int, count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def pack_pixels(image: np.ndarray) -> np.ndarray:
    return image.astype(np.int64) @ (65536, 256, 1)


def read_sheet(png: bytes) -> np.ndarray:
    """The sheet's pixels as one number each, (height, width) int64."""
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return pack_pixels(np.asarray(image))


def find_picture(sheet: np.ndarray, picture: np.ndarray) -> tuple[int, int]:
    """The one place, (top, left), at which a picture stands on a sheet, pixel by pixel."""
    wanted = pack_pixels(picture)
    height, width = wanted.shape
    corners = np.argwhere(sheet[: 1 - height or None, : 1 - width or None] == wanted[0, 0])
    places = [(y, x) for y, x in corners.tolist() if np.array_equal(sheet[y : y + height, x : x + width], wanted)]
    assert len(places) == 1
    return places[0]


@pytest.mark.parametrize(
    ("side", "count", "edge"), [(8, 1, 128), (8, 60, 128), (28, 7, 112), (100, 12, 100), (256, 5, 256)]
)
def test_the_sheet_holds_every_sample_in_rows_with_its_own_pixels_magnified_by_a_whole_number(side, count, edge):
    images = paint_noise(side, count)
    sheet = read_sheet(draw_contact_sheet(iter(images), [f"class {n}" for n in range(count)], "heading", side=side))
    factor = edge // side
    places = [find_picture(sheet, image.repeat(factor, axis=0).repeat(factor, axis=1)) for image in images]
    assert places == sorted(places)
    tops, lefts = sorted({top for top, _ in places}), sorted({left for _, left in places})
    assert len(tops) * len(lefts) >= count > (len(tops) - 1) * len(lefts)
    assert places == [(top, left) for top in tops for left in lefts][:count]
    assert all(after - before > edge + 10 for before, after in itertools.pairwise(tops))
    assert all(after - before > edge for before, after in itertools.pairwise(lefts))
    for top, left in places:
        frame = sheet[top - 1 : top + edge + 1, left - 1 : left + edge + 1]
        assert {*frame[0], *frame[-1], *frame[:, 0], *frame[:, -1]} == {0xC8C8C8}, "shows where a white picture ends"
    if count > 50:
        assert 1 < sheet.shape[1] / sheet.shape[0] < 1.8


def test_large_pictures_are_reduced_to_256_pixels():
    image = np.full((1024, 1024, 3), (10, 20, 30), np.uint8)
    sheet = read_sheet(draw_contact_sheet([image], ["dark"], "heading", side=1024))
    find_picture(sheet, image[:256, :256])
    assert np.count_nonzero(sheet == 0x0A141E) == 256 * 256


def find_ink_below(sheet: np.ndarray, place: tuple[int, int], edge: int) -> np.ndarray:
    """Columns, from the sheet's left edge, that hold ink within 60 pixels below a picture."""
    top = place[0] + edge + 1
    return np.flatnonzero((sheet[top : top + 60] != WHITE).any(axis=0))


def test_titles_stand_below_their_pictures_and_never_reach_the_next_one():
    images = paint_noise(128, 3)
    titles = ["n01484850\n" + "great white shark, man-eater " * 9, "w" * 300, "a_b" * 50]
    sheet = read_sheet(draw_contact_sheet(images, titles, "heading", side=128))
    for image in images:
        top, left = find_picture(sheet, image)
        ink = find_ink_below(sheet[:, : left + 140], (top, left), 128)
        assert ink[ink >= left - 12].min() >= left
        assert ink.max() < left + 128
        assert ink.max() > left + 100


def measure_title(title: str) -> int:
    """Width of a title's ink."""
    image = paint_noise(256, 1)[0]
    sheet = read_sheet(draw_contact_sheet([image], [title], "heading", side=256))
    ink = find_ink_below(sheet, find_picture(sheet, image), 256)
    return int(ink.max() - ink.min()) if len(ink) else 0


def test_no_sign_in_a_name_means_anything_and_any_alphabet_may_stand_there(capfd):
    per_sign = measure_title("a" * 11) - measure_title("a" * 10)
    assert per_sign == 7
    for title in ("$x_1^2$", r"\frac{1}{2}", "<b>a&amp;</b>", "{name}%s", "Привет", "écureuil", "動物", "😀😀"):
        assert measure_title(title) == pytest.approx(per_sign * len(title), abs=8), title
    for title in ("", " ", "\n\n", "a\rb\x07\x0b\tc", "é\u0301\u200d", "עברית"):
        measure_title(title)
    assert capfd.readouterr() == ("", "")


def test_long_names_take_two_lines_and_are_cut_visibly():
    image = paint_noise(128, 1)

    def draw(name: str) -> bytes:
        return draw_contact_sheet(image, [f"n01440764\n{name}"], "heading", side=128)

    one, two, many = (read_sheet(draw(name)) for name in ("tench", "x" * 36, "x" * 3000))
    assert one.shape[0] < two.shape[0] == many.shape[0]
    assert (two != many).any()
    assert draw("x" * 3000) == draw("x" * 35 + "…")


def test_a_heading_that_is_wider_than_the_sheet_is_wrapped():
    image = paint_noise(8, 1)
    short, long = (
        read_sheet(draw_contact_sheet(image, ["a"], heading, side=8)) for heading in ("set", "/a/long/path/" * 20)
    )
    assert short.shape[1] == long.shape[1] == 640
    assert long.shape[0] > short.shape[0] + 30
    assert (long[:, 630:] == WHITE).all()


SHEET_SCRIPT = """
import numpy as np
from pipeline.preprocess.pictures import draw_contact_sheet
draw_contact_sheet([np.zeros((8, 8, 3), np.uint8)], ["a"], "b", side=8)
"""


def test_nothing_is_said_on_any_stream_where_matplotlib_has_nowhere_to_keep_its_caches(tmp_path):
    (tmp_path / "file").touch()
    ended = run_script(SHEET_SCRIPT, MPLCONFIGDIR=str(tmp_path / "file" / "none"))
    assert (ended.stdout, ended.stderr) == (b"", b"")
