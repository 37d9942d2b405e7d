"""The report's page in a real browser: that it asks for nothing, runs nothing foreign, sorts, zooms and prints."""

import io
from pathlib import Path

import matplotlib as mpl
import pytest
from browser import Browser
from matplotlib.figure import Figure
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from pipeline.report.document import Picture, Section, Table
from pipeline.report.html import render_html

SCRIPT = "<script>document.title = 'taken'</script>"
IMAGE = '"><img src=x onerror="document.title = \'taken\'">'
MARKDOWN = (
    f"**bold**, {SCRIPT} {IMAGE} [script](javascript:document.title='taken') ![picture](http://example.org/x.png) "
    "[page](https://example.org/) <https://example.org/auto>"
)
CLAIMS = Table(
    name="claims",
    headers=("claim", "measured, %", "count", "verdict"),
    rows=(
        ("Ten views", "40.66 [40.23, 41.09] / 18.21 [17.87, 18.55]", "1,500 / 297", "reproduced"),
        ("centre", "9.5 [9.1, 9.9]", "", "not reproduced"),
        ("view 10", "not run", "88", "not run"),
        ("view 9", "−0.3", "1,500 / 30", "within noise"),
        ("École", "40.9%", "12", "reproduced"),
        (SCRIPT, "not run", "–", "not run"),
        (IMAGE, "0.1", "7", "not run"),
        ("same", "9.5", "7", "not run"),
        ("commit", "99a4aed31c2f", "7", "not run"),
    ),
)
WIDE = Table(
    name="wide", headers=tuple(f"column {n}" for n in range(30)), rows=(("a long_word_of_its_own",) * 30,) * 40
)


def draw(color: str) -> bytes:
    """A figure whose every id is that of any other's, and with a style that would colour the whole page."""
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0, 1, 4], "o-", color=color)
    axes.set_title("<b>&amp; a figure")
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "same", "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    style = f"<style>@media screen {{ * {{ outline-color: {color} }} }}</style><rect id='same' fill='{color}'/></svg>"
    return content.getvalue().replace(b"</svg>", style.encode())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page with two tables, two figures, and hostile text wherever text goes."""
    pictures = [
        Picture(name=color, caption=f"In {color}: {SCRIPT}{IMAGE}", svg=draw(color)) for color in ("red", "blue")
    ]
    sections = [
        Section(title="Claims", parts=(MARKDOWN, CLAIMS, pictures[0])),
        Section(title=f"{SCRIPT}{IMAGE}", parts=("Text.", WIDE, pictures[1])),
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(f"A report {SCRIPT}{IMAGE}", sections))
    return path.as_uri()


def read_column(browser: Browser, column: int, table: str = "claims") -> list[str]:
    """Cells of a column from top to bottom, with plain spaces."""
    script = "[...document.querySelector(arguments[0]).tBodies[0].rows].map(row => row.cells[arguments[1]].textContent)"
    return [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in browser.run(script, f"#{table}", column)]


def find_header(browser: Browser, column: int):
    return browser.driver.find_elements("css selector", "#claims th button")[column]


def read_style(browser: Browser, selector: str, name: str) -> str:
    return browser.run("getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_asked_for_and_the_console_stays_silent(browser: Browser, page: str, scheme: str):
    browser.open(page, scheme=scheme)
    for button in browser.driver.find_elements("css selector", "th button, figure button"):
        browser.run("arguments[0].click()", button)
        browser.run("document.querySelector('#zoom').close()")
    assert browser.read_console() == []
    assert browser.read_requests() == [page]


def test_foreign_text_stays_text_wherever_it_stands(browser: Browser, page: str):
    browser.open(page)
    assert browser.driver.title == f"A report {SCRIPT}{IMAGE}"
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.querySelectorAll('script').length") == 1
    assert {SCRIPT, IMAGE} <= set(read_column(browser, 0))
    for selector in ("h1", "nav li:last-child", "section:last-child h2", "figcaption", ".text"):
        said = browser.run("document.querySelector(arguments[0]).textContent", selector)
        assert SCRIPT in said, selector
        assert IMAGE in said, selector
    links = browser.run("[...document.querySelectorAll('.text a')].map(link => link.href)")
    assert links == ["http://example.org/x.png", "https://example.org/", "https://example.org/auto"]
    assert browser.run("document.querySelector('.text strong').textContent") == "bold"


def test_the_page_forbids_what_it_does_not_need(browser: Browser, page: str):
    browser.open(page)
    browser.run("document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))")
    browser.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    said = " ".join(browser.read_console())
    assert "script-src" in said
    assert "img-src" in said
    assert browser.driver.title.startswith("A report")


def test_contents_lead_to_their_sections(browser: Browser, page: str):
    browser.open(page)
    links = browser.driver.find_elements("css selector", "nav a")
    for link in links:
        target = link.get_attribute("href").split("#")[1]
        assert browser.run("document.getElementById(arguments[0]).textContent", target) == link.text
    links[1].click()
    assert browser.run("location.hash") == "#section-2"


@pytest.mark.parametrize(
    ("column", "ascending"),
    [
        pytest.param(
            1, ["−0.3", "0.1", "9.5", "9.5 [9.1, 9.9]", "40.66 [", "40.9%", "99a4", "not", "not"], id="numbers"
        ),
        pytest.param(2, ["7", "7", "7", "12", "88", "1,500 / 30", "1,500 / 297", "", "–"], id="counts and blanks"),
        pytest.param(
            3, ["not reproduced", "reproduced", "reproduced", "within noise", *["not run"] * 5], id="words and not run"
        ),
        pytest.param(0, [IMAGE, SCRIPT, "centre", "commit", "École", "same", "Ten", "view 9", "view 10"], id="words"),
    ],
)
def test_a_click_sorts_a_second_turns_round_and_a_third_restores(browser: Browser, page, column: int, ascending: list):
    browser.open(page)
    original = read_column(browser, 0)
    find_header(browser, column).click()
    sorted_up = read_column(browser, column)
    assert all(cell.startswith(start) for cell, start in zip(sorted_up, ascending, strict=True)), sorted_up
    assert browser.run("document.querySelectorAll('[aria-sort]').length") == 1
    assert read_style(browser, "[aria-sort=ascending] button", "cursor") == "pointer"
    find_header(browser, column).click()
    sorted_down = read_column(browser, column)
    blanks = sum(cell in {"", "–", "not run"} for cell in sorted_up)
    words = 1 if column == 1 else 0  # the commit stays below the numbers
    assert sorted_down[len(sorted_down) - blanks :] == sorted_up[len(sorted_up) - blanks :]
    numbers = len(sorted_up) - blanks - words
    assert sorted_down[:numbers] == sorted_up[:numbers][::-1]
    assert browser.run("document.querySelector('[aria-sort=descending]').cellIndex") == column
    find_header(browser, column).click()
    assert read_column(browser, 0) == original
    assert browser.run("document.querySelectorAll('[aria-sort]').length") == 0


def test_rows_that_are_equal_keep_their_order_in_both_directions(browser: Browser, page: str):
    browser.open(page)
    find_header(browser, 1).click()
    for order in ("ascending", "descending"):
        find_header(browser, 2).click()
        assert browser.run("[...document.querySelectorAll('[aria-sort]')].map(head => head.ariaSort)") == [order]
        sevens = [
            name for name, count in zip(read_column(browser, 0), read_column(browser, 2), strict=True) if count == "7"
        ]
        assert sevens == [IMAGE, "same", "commit"]


def test_the_keyboard_sorts_zooms_and_closes(browser: Browser, page: str):
    browser.open(page)
    browser.run("document.querySelector('#claims th button').focus()")
    ActionChains(browser.driver).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert read_column(browser, 1)[0] == "−0.3"
    browser.run("document.querySelector('figure button').focus()")
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    assert browser.run("document.querySelector('#zoom').open")
    ActionChains(browser.driver).send_keys("+").perform()
    assert read_scale(browser) == 2
    ActionChains(browser.driver).send_keys("0").perform()
    assert read_scale(browser) == 1
    ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()
    assert not browser.run("document.querySelector('#zoom').open")
    assert browser.run("document.activeElement.matches('figure button')")


def test_a_filter_leaves_the_rows_with_every_word(browser: Browser, page: str):
    browser.open(page)
    (box,) = browser.driver.find_elements("css selector", "section:first-child .filter input")
    box.send_keys("REPRODUCED TEN")
    shown = [row.text for row in browser.driver.find_elements("css selector", "#claims tbody tr") if row.is_displayed()]
    assert len(shown) == 1
    assert shown[0].startswith("Ten views")
    assert browser.run("document.querySelector('.filter output').textContent") == "1 of 9 rows"
    browser.look(media="print")
    assert all(row.is_displayed() for row in browser.driver.find_elements("css selector", "#claims tbody tr"))


def read_scale(browser: Browser) -> float:
    """How many times as wide as the window the figure is."""
    return browser.run(
        "(stage => stage.querySelector('.drawing').offsetWidth / stage.clientWidth)(document.querySelector('.stage'))"
    )


@pytest.mark.parametrize("number", [0, 1])
def test_a_click_zooms_a_figure_to_the_whole_window(browser: Browser, page: str, number: int):
    browser.open(page)
    browser.driver.find_elements("css selector", "figure .drawing")[number].click()
    assert browser.run("(box => [box.width, box.height])(document.querySelector('#zoom').getBoundingClientRect())") == [
        browser.run("innerWidth"),
        browser.run("innerHeight"),
    ]
    color = ("red", "blue")[number]
    zoomed = "document.querySelector('.stage .drawing').shadowRoot.querySelector('#same').getAttribute('fill')"
    assert browser.run(zoomed) == color
    assert browser.driver.find_element("id", "zoom-caption").text.startswith(f"In {color}")
    assert read_scale(browser) == 1
    browser.driver.find_element("css selector", "[aria-label=More]").click()
    assert read_scale(browser) == 2
    browser.driver.find_element("css selector", "[aria-label=Less]").click()
    assert read_scale(browser) == 1
    browser.driver.find_element("css selector", "[aria-label=More]").click()
    browser.driver.find_element("css selector", "[aria-label=Close]").click()
    assert not browser.run("document.querySelector('#zoom').open")
    browser.driver.find_elements("css selector", "figure .drawing")[number].click()
    assert read_scale(browser) == 1


def test_the_wheel_zooms_about_the_pointer(browser: Browser, page: str):
    browser.open(page)
    browser.driver.find_element("css selector", "figure .drawing").click()
    event = "{deltaY: -400 * Math.log(4), clientX: arguments[0], clientY: arguments[1], cancelable: true}"
    wheel = f"document.querySelector('.stage').dispatchEvent(new WheelEvent('wheel', {event}))"
    stage = browser.run("(({left, top}) => [left, top])(document.querySelector('.stage').getBoundingClientRect())")
    assert browser.run(wheel, stage[0] + 300, stage[1] + 200) is False  # the page behind it does not scroll
    assert read_scale(browser) == pytest.approx(4, abs=0.1)
    place = browser.run("(stage => [stage.scrollLeft, stage.scrollTop])(document.querySelector('.stage'))")
    assert place == pytest.approx([900, 600], abs=1)


def test_figures_do_not_meet_each_other_nor_the_page(browser: Browser, page: str):
    browser.open(page)
    inside = "[...document.querySelectorAll('figure .drawing')].map(host => {const found = {expr}; return found})"
    fills = inside.replace("{expr}", "host.shadowRoot.getElementById('same').getAttribute('fill')")
    assert browser.run(fills) == ["red", "blue"]
    outlines = inside.replace("{expr}", "getComputedStyle(host.shadowRoot.querySelector('path')).outlineColor")
    assert browser.run(outlines) == ["rgb(255, 0, 0)", "rgb(0, 0, 255)"]
    assert read_style(browser, "h1", "outlineColor") == read_style(browser, "h1", "color")
    titles = inside.replace("{expr}", "[...host.shadowRoot.querySelectorAll('text')].at(-1).textContent")
    assert browser.run(titles) == ["<b>&amp; a figure"] * 2


def read_luminance(color: str) -> float:
    """Mean of an `rgb(…)` on [0, 255]."""
    return sum(map(float, color.removeprefix("rgb(").removesuffix(")").split(","))) / 3


def test_a_dark_scheme_changes_the_colours_and_paper_stays_white(browser: Browser, page: str):
    browser.open(page, scheme="light")
    assert read_luminance(read_style(browser, "body", "backgroundColor")) > 200
    assert read_luminance(read_style(browser, "td", "color")) < 60
    browser.look(scheme="dark")
    assert read_luminance(read_style(browser, "body", "backgroundColor")) < 60
    assert read_luminance(read_style(browser, "td", "color")) > 200
    browser.look(scheme="dark", media="print")
    assert read_luminance(read_style(browser, "body", "backgroundColor")) > 200


def test_print_has_no_controls_and_cuts_no_table(browser: Browser, page: str):
    browser.open(page)
    controls = ".filter, figure button"
    assert all(element.is_displayed() for element in browser.driver.find_elements("css selector", ".filter"))
    browser.look(media="print")
    found = browser.driver.find_elements("css selector", controls)
    assert len(found) == 4
    assert not any(element.is_displayed() for element in found)
    arrow = "getComputedStyle(document.querySelector('th button'), '::after').display"
    assert browser.run(arrow) == "none"
    assert read_style(browser, "section:last-child .table", "overflow") == "visible"
    after = "getComputedStyle(document.querySelector('.text a:last-child'), '::after').content"
    assert "https://example.org/auto" in browser.run(after)


@pytest.mark.parametrize("width", [390, 1280])
def test_only_a_wide_table_scrolls_sideways_and_its_header_and_first_column_stay(browser: Browser, page, width: int):
    browser.open(page, width=width, height=800)
    assert browser.run("document.documentElement.scrollWidth") == browser.run("document.documentElement.clientWidth")
    box = "document.querySelector('.table:has(#wide)')"
    browser.run(f"{box}.scrollTo({{left: 500, top: 300}})")
    places = f"[{box}, ...{box}.querySelectorAll('th')].map(found => found.getBoundingClientRect())"
    outer, first, second, *_ = browser.run(f"{places}.map(({{left, top}}) => ({{left, top}}))")
    assert first["left"] == outer["left"]
    assert first["top"] == second["top"] == pytest.approx(outer["top"], abs=2)
    assert second["left"] < outer["left"]


def test_no_line_of_a_command_ends_within_a_flag(browser: Browser, tmp_path: Path):
    words = ["alexnet", "train", *(f"--a-flag-of-many-words={number}" for number in range(40)), "--" + "long-" * 60]
    path = tmp_path / "command.html"
    path.write_text(render_html("Command", [Section(title="One", parts=(f"- `{' '.join(words)}`",))]))
    browser.open(path.as_uri(), width=390, height=800)
    code = "document.querySelector('code')"
    assert browser.run(f"{code}.textContent") == " ".join(words)
    heights = browser.run(f"[...{code}.children].map(word => word.getBoundingClientRect().height)")
    assert len(set(heights[:-1])) == 1
    assert heights[-1] > heights[0]  # wider than the page
    assert browser.run("document.documentElement.scrollWidth") == 390


def test_no_line_of_a_cell_ends_within_a_flag(browser: Browser, tmp_path: Path):
    flags = [f"--a{'-b' * number}" for number in range(2, 12)]
    command = " ".join(["alexnet", *(f"{flag} <i>{number}" for number, flag in enumerate(flags))])
    path = tmp_path / "cell.html"
    table = Table(name="one", headers=("a", "command"), rows=(("a--b", command),))
    path.write_text(render_html("Command", [Section(title="One", parts=(table,))]))
    browser.open(path.as_uri(), width=600, height=800)
    cell = "document.querySelector('td:last-child')"
    assert browser.run(f"{cell}.textContent") == command
    assert browser.run(f"[...{cell}.children].map(flag => flag.textContent)") == flags
    lines = browser.run(f"[...{cell}.children].map(flag => flag.getClientRects().length)")
    assert lines == [1] * len(flags)
    assert browser.run(f"{cell}.getClientRects()[0].height") > 60


def test_a_table_is_named_by_its_heading(browser: Browser, page: str):
    browser.open(page)
    names = browser.run("[...document.querySelectorAll('.table')].map(box => box.ariaLabel)")
    assert names == ["Claims", f"{SCRIPT}{IMAGE}"]
    assert browser.run("document.querySelector('.filter input').ariaLabel") == "Filter rows: Claims"


def test_the_header_of_a_table_that_fits_stays_in_the_window(browser: Browser, page: str):
    browser.open(page, width=1280, height=300)
    browser.run("document.querySelector('#claims tbody tr:nth-child(4)').scrollIntoView()")
    assert browser.run("document.querySelector('#claims th').getBoundingClientRect().top") == 0


def test_without_sections_or_rows_there_is_still_a_page(browser: Browser, tmp_path: Path):
    path = tmp_path / "empty.html"
    table = Table(name="empty", headers=("a", "b"), rows=())
    path.write_text(
        render_html("Nothing", [Section(title="Empty", parts=(table,)), Section(title="No parts", parts=())])
    )
    browser.open(path.as_uri())
    find = "document.querySelectorAll('#empty th button').length"
    assert browser.run(find) == 2
    assert browser.read_console() == []
