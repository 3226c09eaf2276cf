"""`featureplane parity --paths`: replay, hftbacktest and service show the same bytes of every recording."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.cli import main
from featureplane.errors import EmptyStream, ExtraUnavailable, SettingError
from featureplane.ops import paths as module
from featureplane.ops.paths import PATHS, PathReport, Recording, compare_paths
from tests.parity.streams import V1, V2
from tests.parity.test_recordings import BINANCE, FRAMES, INSTRUMENTS, OTHERS
from tests.shared_data import shared
from tests.soak import compared

SAMPLE = str(Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz")
WORDS = ["parity", SAMPLE, "--source", "binance-spot", "--features", "lob_shared_v1"]
ALL = ["--paths", "replay,hftbacktest,service"]
HEAD = 60_000
needs_native = pytest.mark.skipif(not native.available(), reason="no extension")
SHIPPED = pytest.mark.parametrize("fset", [V1, V2], ids=lambda fset: fset.feature_set_id)


def recording(name: str, until: int | None) -> Recording:
    """A recording of `test_recordings`, or its first events."""
    source, files, instruments, symbol, options = (BINANCE | OTHERS)[name]
    about: Any = None if instruments is None else INSTRUMENTS / f"{instruments}.toml"
    return Recording(
        [shared(file) for file in files], source, symbol, until=until, instruments=about, **options
    )


def agreeing(report: PathReport) -> int:
    """How many frames were equal on all three paths, which is all of them."""
    compared.update(events=report.events, frames=report.compared)
    assert report.first_mismatch is None, f"{report.mismatches}: {report.first_mismatch}"
    assert report.error is None
    assert list(report.frames) == list(PATHS) == ["replay", "hftbacktest", "service"]
    assert set(report.frames.values()) == {report.compared}
    return report.compared


# -- what was recorded


@pytest.mark.native
@needs_native
@SHIPPED
@pytest.mark.parametrize("name", BINANCE)
def test_heads_of_binance_recordings(name: str, fset: fp.FeatureSet) -> None:
    assert agreeing(compare_paths(recording(name, HEAD), fset)) > 400


@pytest.mark.native
@needs_native
@SHIPPED
def test_the_head_of_a_taifex_array(fset: fp.FeatureSet) -> None:
    assert agreeing(compare_paths(recording("TAIFEX future", HEAD), fset)) > 300


@pytest.mark.soak
@pytest.mark.native
@needs_native
@SHIPPED
@pytest.mark.parametrize("name", BINANCE)
def test_whole_binance_recordings(name: str, fset: fp.FeatureSet) -> None:
    frames = agreeing(compare_paths(recording(name, None), fset))
    assert frames == FRAMES[name][0 if fset is V1 else 1]


@pytest.mark.native
@needs_native
@SHIPPED
@pytest.mark.parametrize("name", ["TAIFEX option", pytest.param("TAIFEX future", marks=pytest.mark.soak)])
def test_whole_taifex_arrays_with_their_session_breaks(name: str, fset: fp.FeatureSet) -> None:
    whole = recording(name, None)
    frames = agreeing(compare_paths(whole, fset))
    breaks = [
        frame
        for frame in fp.FeatureEngine(fset).replay(whole.events)
        if frame.seq > 1 and frame.flags & fp.Quality.STATE_RESET and not frame.ready
    ]
    assert breaks
    assert frames > 20_000


@pytest.mark.parametrize("fset", [V1, V2], ids=lambda fset: fset.feature_set_id)
def test_made_up_accidents(fset: fp.FeatureSet) -> None:
    made_up = Recording("synthetic:5:4000", "synthetic")
    assert agreeing(compare_paths(made_up, fset)) > 500
    assert any(frame.has_gap for frame in fp.FeatureEngine(fset).replay(made_up.events))


@pytest.mark.native
@needs_native
def test_rows_of_our_converter_in_a_file(tmp_path: Path) -> None:
    rows = str(tmp_path / "rows.npz")
    assert main(["convert", SAMPLE, "--source", "binance-spot", "--to", "hftbacktest", "--out", rows]) == 0
    instrument = fp.sample_events().instrument
    read = Recording(rows, "hftbacktest", instrument.symbol, instruments=instrument)
    assert agreeing(compare_paths(read, V1)) > 500


# -- what is not the same, and what was not compared


class Broken:
    """A path that goes wrong in one place."""

    def __init__(self, at: int, *, what: str) -> None:
        self.at, self.what = at, what

    def __call__(self, recording: Recording, fset: fp.FeatureSet) -> Iterator[bytes]:
        for number, frame in enumerate(PATHS["replay"](recording, fset), 1):
            if number != self.at:
                yield frame
            elif self.what == "changes":
                yield frame[:-8] + bytes(8)
            elif self.what == "fails":
                raise EmptyStream("the rest")


@pytest.mark.parametrize("what", ["changes", "drops", "fails"])
def test_a_path_that_differs_is_named_with_the_frame(what: str) -> None:
    made_up = Recording("synthetic:5:3000", "synthetic", until=2_000)
    broken = {**PATHS, "broken": Broken(100, what=what)}
    report = compare_paths(made_up, V1, ("replay", "broken"), paths=broken)
    first = report.first_mismatch
    assert first is not None
    assert (first.path, first.number) == ("broken", 100)
    assert report.mismatches >= 1
    if what == "changes":
        assert (report.mismatches, first.seq, list(first.differs)) == (1, 100, ["depth_imbalance_ema8_ppm"])


def test_a_path_without_frames_agrees_with_nobody() -> None:
    made_up = Recording("synthetic:5:3000", "synthetic", until=500)
    silent = {**PATHS, "silent": lambda *_: iter(())}
    report = compare_paths(made_up, V1, ("replay", "silent"), paths=silent)
    assert report.mismatches == report.compared > 0
    with pytest.raises(EmptyStream):
        compare_paths(
            made_up, V1, ("silent", "mute"), paths={"silent": silent["silent"], "mute": silent["silent"]}
        )


def test_until_cuts_every_path_at_one_message() -> None:
    cut = Recording(SAMPLE, "binance-spot", until=9_000)
    assert 8_900 < len(cut.events) <= 9_000
    assert agreeing(compare_paths(cut, V1)) > 100


@pytest.mark.parametrize(
    "names", [("replay",), ("replay", "replay"), ("replay", "servise"), ()], ids=",".join
)
def test_names_that_compare_nothing_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(SettingError):
        compare_paths(Recording("synthetic:5:300", "synthetic"), V1, names)


# -- the command


def test_agreement_is_0_and_says_how_much_it_proves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, *ALL, "--until", "9000", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["mismatches"], answer["first_mismatch"], answer["error"]) == (0, None, None)
    assert answer["frames"].keys() == PATHS.keys()
    assert answer["rate_bound"] == pytest.approx(3 / answer["frames"]["service"])
    assert main([*WORDS, *ALL, "--until", "9000"]) == 0
    assert "0 mismatches with replay" in capsys.readouterr().out


def test_disagreement_is_1_and_says_how_to_look_closer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {**PATHS, "service": Broken(60, what="changes")}
    monkeypatch.setattr(module.compare_paths, "__kwdefaults__", {"paths": broken, "progress": None})
    assert main([*WORDS, *ALL, "--until", "9000"]) == 1
    captured = capsys.readouterr()
    assert "1 mismatches" in captured.out
    assert "--at 60 --feature depth_imbalance_ema8_ppm" in captured.err
    assert main([*WORDS, *ALL, "--until", "9000", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["first_mismatch"]["path"] == "service"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--paths", "replay,servise"], "did you mean service?", id="no such path"),
        pytest.param(["--paths", "replay"], "two or more", id="one alone"),
        pytest.param([*ALL, "--until", "1"], "data inspect", id="no frame"),
        pytest.param([*ALL, "--until", "0"], "above 0", id="no event"),
        pytest.param([*ALL, "--on-gap", "refuse"], "--on-gap wait", id="a service that would stop"),
    ],
)
def test_nothing_to_compare_is_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_a_path_that_cannot_run_is_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hftbacktest", None)
    with pytest.raises(ExtraUnavailable):
        compare_paths(Recording("synthetic:5:300", "synthetic"), V1)
    assert main([*WORDS, *ALL]) == 2
    assert "pip install" in capsys.readouterr().err
