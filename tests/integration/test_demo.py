"""The demo, as a new user meets it: quick, sound, and a page that draws in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from featureplane.cli import main
from tests.browser import page

PAGE_BYTES_MOST = 5_000_000


def demo(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["demo", "--out", str(folder), "--json", *words]) == 0
    return dict(json.loads(capsys.readouterr().out))


def check_page(path: Path, panels: int) -> None:
    """Open it where nothing can be reached, in a window as people have."""
    assert path.stat().st_size < PAGE_BYTES_MOST
    with page() as window:
        window.show(path, width=1440, height=1000)
        assert window.complaints == []
        assert window.requests == [path.resolve().as_uri()]
        assert window.shades("#book") > 100
        assert window.run("document.querySelectorAll('.panel').length") == panels
        for number in range(1, panels + 1):
            assert window.shades(f".panel:nth-child({number}) canvas") > 2
        assert window.run("document.querySelectorAll('.tables tr').length") > 15
        assert window.run("document.querySelectorAll('.bad').length") == 0


@pytest.mark.native
def test_the_whole_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = demo(tmp_path, capsys)
    assert answer["best_quotes"] == {"compared": 3_433, "agree": 3_433}
    assert answer["parity"]["frames"] > 500
    assert answer["parity"]["mismatches"] == 0
    assert answer["set"] == "lob_shared_v2"
    assert answer["frames"] == pq.read_metadata(tmp_path / "features.parquet").num_rows == 9_539
    assert {path.name for path in tmp_path.iterdir()} == {"features.parquet", "report.html"}
    check_page(tmp_path / "report.html", panels=6)


def test_the_first_minute_on_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = demo(tmp_path, capsys, "--backend", "python")
    assert answer["whole_sample"] is False
    assert answer["best_quotes"]["agree"] == answer["best_quotes"]["compared"] > 500
    assert answer["parity"] is None
    check_page(tmp_path / "report.html", panels=6)


def test_people_are_told_how_to_get_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path), "--backend", "python"]) == 0
    captured = capsys.readouterr()
    assert "books equal the exchange's own best quotes" in captured.out
    assert "rustup.rs" in captured.err
