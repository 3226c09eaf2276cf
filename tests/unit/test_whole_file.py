"""A file appears whole or not at all, and never in place of what is no file of ours."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import numpy as np
import pytest

import featureplane as fp
from featureplane.cli import main
from featureplane.errors import SettingError
from featureplane.whole_file import WholeFile, check_target


def _write(path: Path, text: str) -> None:
    with WholeFile(path) as file:
        file.part.write_text(text)


def test_what_stood_there_stays_until_the_whole_file_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "out"
    _write(path, "first")
    with WholeFile(path) as file:
        file.part.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208 - hidden ones too


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_leaves_what_there_was_and_nothing_besides(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    file = WholeFile(path)
    file.part.write_text("half")
    with pytest.raises(error), file:
        raise error
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208 - as above


def test_a_full_disk_is_told_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(SettingError, match="No space left") as caught, WholeFile(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(path) in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_what_a_link_names_is_written(tmp_path: Path) -> None:
    path, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(path)
    _write(link, "text")
    assert link.is_symlink()
    assert path.read_text() == "text"


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    pipe, link, name = tmp_path / "pipe", tmp_path / "link", tmp_path / "socket"
    os.mkfifo(pipe)
    link.symlink_to(os.devnull)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(name))
        for path, what in ((pipe, "pipe"), (link, "device"), (name, "socket"), (tmp_path, "folder")):
            with pytest.raises(SettingError, match=f"cannot be written .it is a {what}"):
                WholeFile(path)
    assert pipe.is_fifo()
    assert Path(os.devnull).is_char_device()


def test_an_input_is_no_output(tmp_path: Path) -> None:
    path, other = tmp_path / "in", tmp_path / "same"
    path.write_text("input")
    other.hardlink_to(path)
    for inputs in (path, str(path), [other, path], (str(other),)):
        with pytest.raises(SettingError, match="it is read, too"):
            check_target(path, inputs)
    assert check_target(path, np.zeros(3)) == path
    assert check_target(tmp_path / "new", [path, tmp_path / "absent"]) == tmp_path / "new"


def test_a_name_that_is_no_text_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = os.fsdecode(bytes(tmp_path / "n") + b"\xff.gz")
    words = ["replay", "--source", "binance-spot", "--features", "lob_shared_v1"]
    for more in ([bad, "--out", str(tmp_path / "out")], ["sample.gz", "--out", bad]):
        assert main([*words, *more]) == 2
        error, hint = capsys.readouterr().err.splitlines()[-2:]
        assert "UTF-8" in error + hint
        assert "should not happen" not in hint
    assert not any(tmp_path.iterdir())


def test_no_command_writes_over_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.fpcap"
    batch = fp.sample_events()
    from featureplane.market.sources.capture import CaptureWriter  # noqa: PLC0415 - this test alone

    with CaptureWriter(path, batch.instruments, batch.source) as writer:
        writer.write(batch.array[: batch.message_ends[40]])
    before = path.read_bytes()
    features = ("--features", "lob_shared_v1")
    strategy = "featureplane.strategy.examples.market_maker:SharedMarketMaker"
    for words in (
        ("replay", str(path), "--source", "capture", *features),
        ("capture", str(path), "--source", "capture"),
        ("convert", str(path), "--source", "capture", "--to", "hftbacktest"),
        ("instruments", "infer", str(path), "--source", "capture"),
        ("backtest", strategy, "--data", str(path), "--source", "capture", "--mode", "replay", *features),
    ):
        assert main([*words, "--out", str(path)]) == 2
        assert "it is read, too" in capsys.readouterr().err.replace("\n", " ")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["o.csv", "o.CSV", "o.npz", "o.parquet.gz"])
def test_a_table_is_not_written_under_a_name_of_another_format(name: str, tmp_path: Path) -> None:
    path, events = tmp_path / name, fp.sample_events().part(0, 100)
    words = r"expected \.parquet: Parquet is written"
    with pytest.raises(SettingError, match=words) as refused:
        fp.compute(events, "lob_shared_v1", out=path)
    assert str(path.with_suffix(".parquet")) in str(refused.value.hint)
    with pytest.raises(SettingError, match=words):
        fp.compute(events, "lob_shared_v1").write_parquet(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["o", "o.pq", "o.PARQUET", "o.20240808"])
def test_a_table_is_written_under_any_other_name(name: str, tmp_path: Path) -> None:
    report = fp.compute(fp.sample_events().part(0, 100), "lob_shared_v1", out=tmp_path / name)
    assert report.rows
    assert (tmp_path / name).read_bytes()[:4] == b"PAR1"


def test_commands_refuse_a_name_of_another_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = str(Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz")
    given = [sample, "--source", "binance-spot", "--out", str(tmp_path / "x.csv")]
    for words, ending in (
        (["replay", *given, "--features", "lob_shared_v1"], ".parquet"),
        (["convert", *given, "--to", "hftbacktest"], ".npz"),
    ):
        assert main(words) == 2
        assert f"x{ending}" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
