"""The report in a real browser: it opens from a file, needs no network, and draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from featureplane.errors import EmptyStream
from featureplane.market.synthetic import synthetic_events
from featureplane.ops.heatmap import book_changes, market_trades
from featureplane.ops.report import Chart, Figure, Panel, Report, Row, Section
from tests.browser import Page, page

FLAGS = (
    "GAP_DETECTED",
    "STATE_RESET",
    "STALE_INPUT",
    "OUT_OF_ORDER_INPUT",
    "PARTIAL_FEATURES",
    "CROSSED_BOOK",
)


def chart(window: int = 200) -> Chart:
    """Made-up events, a feature that has values and one that has none, a stretch with a flag."""
    events = synthetic_events(20_000, seed=7, faults=False)
    middle = int(np.median(events["price"][events["kind"] == 2])) if window else -1
    changes = book_changes(events, middle - window, middle + window)
    trades = market_trades(events, middle - window, middle + window)
    frames = len(changes.time_ns)
    wave = np.sin(np.arange(frames) / 50)
    flags = np.zeros(frames, dtype=np.uint32)
    flags[frames // 3 : frames // 2] = 1 << 4
    return Chart(
        changes=changes,
        trades=trades,
        price_decimals=2,
        qty_decimals=3,
        base="COIN",
        frame_time_ns=changes.time_ns,
        frame_flags=flags,
        frame_bid=middle - 1 + np.round(20 * wave),
        frame_ask=middle + 1 + np.round(20 * wave),
        panels=[
            Panel("wave", "ppm", wave.astype(np.float32), "a sine", signed=True),
            Panel("nothing", "", np.full(frames, np.nan, np.float32), absent="the venue has no <such> field"),
        ],
        shown=["wave", "nothing"],
        flag_names=FLAGS,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = Report(
        "A </script> of a title",
        "made up",
        chart(),
        figures=[Figure("Events", "20,000", "made up", "good")],
        sections=[Section("Read", [Row("trades & more", "1 < 2", "a note", "bad")], "a remark")],
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert report.write(path) == path.stat().st_size
    assert list(path.parent.iterdir()) == [path]
    return path


@pytest.fixture(scope="module")
def opened(written: Path) -> Iterator[Page]:
    with page() as window:
        window.show(written, width=1200, height=900)
        yield window


def picture(window: Page) -> str:
    """The heat map as it stands."""
    window.settle()
    return str(window.run("document.querySelector('#book').toDataURL()"))


def zoom_in(window: Page) -> None:
    for _ in range(8):
        window.mouse("mouseWheel", 500, 350, deltaX=0, deltaY=-120)


def test_the_page_draws_and_says_nothing(opened: Page, written: Path) -> None:
    assert opened.shades("#book") > 60
    assert opened.shades("#quality") >= 3
    assert opened.shades(".panel:first-child canvas") > 3
    assert opened.requests == [written.as_uri()], "the page asked for something else"
    assert opened.complaints == []


def test_words_are_words_and_not_markup(opened: Page) -> None:
    assert opened.run("document.title") == "A </script> of a title"
    assert "trades & more" in opened.run("document.querySelector('table').innerText")
    assert opened.run("document.querySelectorAll('select')[1].value") == "1"


def test_wheel_zooms_pointer_reads_and_a_double_click_goes_home(opened: Page) -> None:
    home = picture(opened)
    zoom_in(opened)
    opened.mouse("mouseMoved", 500, 350)
    assert picture(opened) != home
    assert "resting at" in opened.run("document.querySelector('#readout').innerText")
    for clicks in (1, 2):
        opened.mouse("mousePressed", 500, 350, button="left", clickCount=clicks)
        opened.mouse("mouseReleased", 500, 350, button="left", clickCount=clicks)
    assert picture(opened) == home
    assert opened.complaints == []


def test_a_drag_moves_time(opened: Page) -> None:
    zoom_in(opened)
    before = picture(opened)
    opened.mouse("mousePressed", 500, 350, button="left", clickCount=1)
    opened.mouse("mouseMoved", 300, 350, button="left", buttons=1)
    opened.mouse("mouseReleased", 300, 350, button="left", clickCount=1)
    assert picture(opened) != before
    assert opened.complaints == []


@pytest.mark.parametrize(
    ("scheme", "paper"),
    [
        pytest.param("light", "rgb(251, 250, 247)", id="light"),
        pytest.param("dark", "rgb(12, 15, 22)", id="dark"),
    ],
)
def test_both_schemes_and_fine_screens(written: Path, scheme: str, paper: str) -> None:
    with page() as window:
        window.show(written, width=900, height=700, scheme=scheme, ratio=2)
        assert window.run("document.querySelector('#book').width") == 2 * window.run(
            "document.querySelector('#stack').clientWidth"
        )
        assert window.shades("#book") > 60
        assert window.run("getComputedStyle(document.body).backgroundColor") == paper
        assert window.complaints == []


def test_a_script_that_fails_would_be_noticed(tmp_path: Path, written: Path) -> None:
    broken = tmp_path / "broken.html"
    text = written.read_text(encoding="utf-8").replace("goHome();\nlisten();", "nobodyKnowsThis();")
    broken.write_text(text, encoding="utf-8")
    with page() as window:
        window.show(broken, width=900, height=700)
        assert window.complaints
        assert window.shades("#book") == 1


def test_nothing_to_draw_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(EmptyStream):
        Report("empty", "", chart(window=0)).write(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
