"""What bad input gets from the shell: two lines, exit status 2, no traceback, nothing left behind."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import featureplane as fp
from featureplane.cli import main

SAMPLE = Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz"
MAKER = "featureplane.strategy.examples.market_maker:SharedMarketMaker"
SPOT = ("--source", "binance-spot")
INSTRUMENTS = SAMPLE.with_name("instruments.toml")
LINES = gzip.decompress(SAMPLE.read_bytes()).splitlines(keepends=True)[:4000]


def packed(path: Path, lines: Iterable[bytes]) -> list[str]:
    path.write_bytes(gzip.compress(b"".join(lines), compresslevel=1))
    return [str(path)]


def cut_short(folder: Path) -> list[str]:
    path = folder / "cut.gz"
    path.write_bytes(SAMPLE.read_bytes()[:400_000])
    return [str(path)]


def one_bit_flipped(folder: Path) -> list[str]:
    data = bytearray(SAMPLE.read_bytes())
    data[400_000] ^= 8
    path = folder / "flipped.gz"
    path.write_bytes(data)
    return [str(path)]


def broken_line(folder: Path) -> list[str]:
    return packed(folder / "line.gz", [*LINES[:99], LINES[99][:40] + b"\n", *LINES[100:]])


def not_text(folder: Path) -> list[str]:
    return packed(folder / "bytes.gz", [*LINES[:50], b"1723161254024619568 {\xff\xfe}\n"])


def nested(folder: Path) -> list[str]:
    return packed(folder / "deep.gz", [*LINES[:50], b"1723161254224619568 " + b"[" * 100_000 + b"\n"])


def no_snapshot(folder: Path) -> list[str]:
    return packed(folder / "bare.gz", [line for line in LINES if b"lastUpdateId" not in line])


def wrong_order(folder: Path) -> list[str]:
    first, second = packed(folder / "a.gz", LINES[:2000]), packed(folder / "b.gz", LINES[2000:])
    return [*second, *first]


def empty(folder: Path) -> list[str]:
    return packed(folder / "empty.gz", [])


def wrong_exponent(folder: Path) -> list[str]:
    return _with_instruments(folder, "qty_exponent = 5", "qty_exponent = 3")


def wrong_tick(folder: Path) -> list[str]:
    return _with_instruments(folder, 'tick_size = "0.01"', 'tick_size = "0.05"')


def few_levels(folder: Path) -> list[str]:
    return _with_instruments(folder, "qty_exponent = 5", "qty_exponent = 5\nbook_levels = 20")


def unknown_key(folder: Path) -> list[str]:
    return _with_instruments(folder, "tick_size", "tick_sice")


def _with_instruments(folder: Path, before: str, after: str) -> list[str]:
    path = folder / "instruments.toml"
    path.write_text(INSTRUMENTS.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    return [str(SAMPLE), "--instruments", str(path)]


@pytest.mark.parametrize("backend", [pytest.param("rust", marks=pytest.mark.native), "python"])
@pytest.mark.parametrize(
    ("made", "said"),
    [
        pytest.param(cut_short, ["cut.gz", "byte 400000 inside gzip data"], id="cut short"),
        pytest.param(one_bit_flipped, ["flipped.gz"], id="one bit flipped"),
        pytest.param(broken_line, ["line.gz:100"], id="a line that breaks off"),
        pytest.param(not_text, ["bytes.gz:51"], id="not UTF-8"),
        pytest.param(nested, ["deep.gz:51"], id="nested without end"),
        pytest.param(no_snapshot, ["no snapshot", "--seed increments"], id="no snapshot"),
        pytest.param(wrong_order, ["order by time is", "a.gz, "], id="files in the wrong order"),
        pytest.param(empty, ["empty.gz: nothing there"], id="empty"),
        pytest.param(wrong_exponent, ["decimals", "instruments.toml:"], id="too few decimals declared"),
        pytest.param(wrong_tick, ["tick_size", "declared as 0.05", "instruments.toml:"], id="a wrong tick"),
        pytest.param(few_levels, ["instruments.toml:8", "declared as 20", "1000 bids"], id="few levels"),
        pytest.param(unknown_key, ["tick_sice", "instruments.toml"], id="a key nobody knows"),
    ],
)
def test_bad_input_is_two_lines_and_no_file(
    made: Callable[[Path], list[str]],
    said: list[str],
    backend: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = made(tmp_path)
    there = set(tmp_path.iterdir())
    words = ["replay", *given, "--source", "binance-spot", "--features", "lob_shared_v1"]
    assert main([*words, "--backend", backend, "--out", str(tmp_path / "out.parquet"), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("note: ")]
    assert [line.split(": ")[0] for line in lines] == ["error", "hint"]
    for words_said in said:
        assert words_said in captured.err
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize("backend", [pytest.param("rust", marks=pytest.mark.native), "python"])
@pytest.mark.parametrize("symbol", [[], ["--symbol", "ETHUSDT"]], ids=["any", "one"])
@pytest.mark.parametrize(
    "words",
    [
        ["data", "inspect"],
        ["data", "verify"],
        ["instruments", "infer"],
        ["parity", "--features", "lob_shared_v1"],
    ],
    ids=" ".join,
)
def test_a_file_without_messages_is_named_whatever_is_asked_of_it(
    words: list[str], symbol: list[str], backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*words, *empty(tmp_path), "--source", "binance-spot", *symbol]
    if words[0] != "parity":  # it has both
        given += ["--backend", backend]
    assert main(given) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "messages of binance-spot in " in told.err
    assert "empty.gz: nothing there" in told.err


def test_a_tick_the_data_contradict_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["instruments", "check", *_with_instruments(tmp_path, '"0.01"', '"0.05"')]
    assert main([*words, "--source", "binance-spot"]) == 2
    said = capsys.readouterr().err
    assert "instruments.toml:" in said
    assert "declared as 0.05" in said


def test_levels_the_data_contradict_are_named_with_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for levels, status in ((20, 2), (999, 2), (50_000, 0)):
        given = _with_instruments(tmp_path, "qty_exponent = 5", f"qty_exponent = 5\nbook_levels = {levels}")
        assert main(["instruments", "check", *given, "--source", "binance-spot"]) == status
        said = capsys.readouterr().err
        contradicts = f"instruments.toml:8: `book_levels` is declared as {levels}, the data have 1000 bids"
        assert (contradicts in said) == (status == 2)


@pytest.mark.parametrize("words", [["replay", "--features", "lob_shared_v1"], ["capture"]], ids=" ".join)
def test_a_folder_that_is_not_there_is_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    for nowhere in (tmp_path / "nowhere", file):
        given = [*words, str(SAMPLE), "--source", "binance-spot", "--out", str(nowhere / "day")]
        assert main(given) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
        assert [line.split(": ")[0] for line in said] == ["error", "hint"]
        assert nowhere.name in said[0]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["replay", "--features", "lob_shared_v1"], id="replay"),
        pytest.param(["capture"], id="capture"),
        pytest.param(["instruments", "infer"], id="instruments infer"),
    ],
)
def test_a_folder_is_no_file_to_write(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    assert main([*words, str(SAMPLE), "--source", "binance-spot", "--out", str(folder)]) == 2
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith(f"error: {folder}")
    assert hint == "hint: name a file in it"
    assert list(tmp_path.rglob("*")) == [folder]


@pytest.mark.native
def test_parity_refuses_a_wrong_tick_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["parity", *wrong_tick(tmp_path), "--source", "binance-spot", "--features", "lob_shared_v1"]
    assert main([*words, "--until", "3000"]) == 2
    assert "declared as 0.05" in capsys.readouterr().err


@pytest.mark.native
def test_rule_10_1_a_dropped_depth_line_breaks_the_book_in_every_execution(tmp_path: Path) -> None:
    at = next(n for n, line in enumerate(LINES[500:], 500) if b"depthUpdate" in line)
    lines = [*LINES[:at], LINES[at].replace(b'"u":', b'"v":'), *LINES[at + 1 :]]
    paths = packed(tmp_path / "spoiled.gz", lines)
    whole = fp.compute(fp.read_events(packed(tmp_path / "whole.gz", LINES), "binance-spot"), "lob_shared_v1")
    for backend in ("python", "rust"):
        events = fp.read_events(paths, "binance-spot", on_malformed="drop", backend=backend)
        report = fp.parity(events, "lob_shared_v1")
        assert report.agrees
        assert report.dropped["malformed"] == 1
        whole = fp.compute(
            fp.read_events(packed(tmp_path / "whole.gz", LINES), "binance-spot"), "lob_shared_v1"
        )
        assert report.frames < len(whole), "no frame while the book is broken"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--source", "binance-spot"], "source: found 'binance-spot', expected replay:PATH"),
        (
            ["backtest", MAKER, "--data", str(SAMPLE), *SPOT, "--latency-us=-5"],
            "--latency-us: found -5, expected",
        ),
        (
            ["backtest", MAKER, "--data", str(SAMPLE), *SPOT, "--maker-bps", "abc"],
            "--maker-bps: found 'abc', expected",
        ),
        (["data", "inspect", ""], ".: found a folder, expected a file"),
    ],
    ids=["source", "latency", "fee", "an empty path"],
)
def test_an_error_says_what_was_found_and_what_is_expected(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err
