"""A page about a soak never says more than what was run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import soak
from scripts.soak import Part, Run

SERVED = {
    "seconds_of_feed": 3_600,
    **dict.fromkeys((one.replace(" ", "_") for one in soak.SERVICE_NUMBERS), 0),
}
HELD = "  gzip         held              6,630 runs in 2 s"


def part(name: str, tmp_path: Path, scale: float = 1.0) -> Part:
    return next(one for one in soak.parts(scale, 60, 2, tmp_path) if one.name == name)


def outcome(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("| Outcome |"))


def done(*, status: int = 0) -> Part:
    return Part("x", "Some part", [], lambda _: iter(()), status=status)


def test_only_all_of_it_is_the_whole() -> None:
    whole, share = Run(1.0, whole=True), Run(0.5, whole=False)
    open_part = Part("y", "Another part", [], lambda _: iter(()))
    assert "not finished" in outcome(soak.page(whole, [done(), open_part], stopped=False))
    assert "stopped" in outcome(soak.page(whole, [done(), open_part], stopped=True))
    assert "FAILED" in outcome(soak.page(whole, [done(), done(status=1)], stopped=False))
    assert "not the whole" in outcome(soak.page(share, [done()], stopped=False))
    assert "all parts passed" in outcome(soak.page(whole, [done()], stopped=False))


def judged(one: Part, **counts: int) -> list[str]:
    one.counts.update({name.replace("_", " "): count for name, count in counts.items()})
    return list(one.judge(one))


def test_a_part_that_shows_too_little_has_failed(tmp_path: Path) -> None:
    enough = {"tests": 20, "frames": 1_000, "events": 10_000_000}
    assert judged(part("synthetic", tmp_path), **enough) == []
    assert judged(part("synthetic", tmp_path, 0.01), **enough | {"events": 100_000}) == []
    for name, fewer in (
        ("synthetic", {"events": 9_000_000}),
        ("recordings", {"frames": 0}),
        ("recordings", {"left_out": 1}),
        ("tests", {"tests": 0}),
        ("service", {**SERVED, "seconds_of_feed": 3_000}),
        ("service", {"seconds_of_feed": 3_600}),
        *(("service", {name: n for name, n in SERVED.items() if name != one}) for one in SERVED),
        ("mutations", {}),
        ("fuzz", {}),
    ):
        assert judged(part(name, tmp_path), **enough | fewer), name
    assert judged(part("service", tmp_path), tests=1, **SERVED) == []
    fuzz, mutations = part("fuzz", tmp_path), part("mutations", tmp_path)
    fuzz.lines, mutations.lines = [HELD, HELD], ["caught      1.4 s  a.py: what", "   how"]
    assert judged(fuzz) == judged(mutations) == []
    assert (fuzz.counts["runs"], mutations.counts["caught"]) == (13_260, 1)


def test_a_report_of_pytest_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert not soak.counted(report)
    report.write_text(
        "<testsuites><testsuite><testcase><properties><property name='frames' value='7'/></properties>"
        "</testcase><testcase><skipped/></testcase><testcase/></testsuite></testsuites>"
    )
    assert soak.counted(report) == {"tests": 2, "left out": 1, "frames": 7}


@pytest.mark.parametrize(("code", "status"), [("print('seen')", 0), ("raise SystemExit(3)", 3)])
def test_a_command_is_run_and_its_status_kept(
    code: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def complains(_: Part) -> Iterator[str]:
        yield "too little"

    one = Part("x", "Some part", ["-c", code], complains)
    soak.run(one)
    assert (one.status, one.wrong, one.passed) == (status, ["too little"], False)
    assert one.lines == ["seen"] * (status == 0)
    assert "Some part" in capfd.readouterr().out


def test_a_page_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "folder" / "SOAK.md"
    for text in ("first", "second"):
        soak.write(text, out)
        assert [(path.name, path.read_text()) for path in out.parent.iterdir()] == [("SOAK.md", text)]
