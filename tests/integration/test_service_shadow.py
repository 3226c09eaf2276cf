"""A service with a shadow: its numbers, what can be asked of it, and its frames, which stay what they are."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from featureplane import native
from featureplane.cli.app import main
from featureplane.errors import StateError
from featureplane.features.shadow import Shadow
from featureplane.services.control import ask_service
from featureplane.settings import Settings
from scripts.mutations import Mutation, read_list
from tests.integration.test_service_web import get, served, until_taken
from tests.services import Frames, Lines, sample_lines, service
from tests.shadow import WAIT_S, closing, mutated

pytestmark = pytest.mark.skipif(not native.available(), reason="a shadow on the other backend needs both")

CHECKS = "feature_shadow_parity_checks_total"
MISMATCHES = "feature_shadow_parity_mismatch_total"


def coefficient() -> Mutation:
    return next(one for one in read_list() if one.what == "one coefficient" and one.file.endswith(".py"))


def test_frames_are_the_same_with_and_without_a_shadow() -> None:
    packed = []
    for shadow in (None, Shadow(sample_every=8)):
        frames = Frames()
        running = service(subscribers=[frames], shadow=shadow)
        running.run(Lines(sample_lines(4_000)))
        packed.append(frames.packed)
        if shadow is not None:
            assert shadow.counts.match == len(frames.packed) // 8 > 20
            assert shadow.pids == ()
    assert packed[0] == packed[1]


def test_what_operators_see_and_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = mutated(coefficient(), tmp_path / "changed")
    last_path, lines = Path("var/shadow_last.json"), sample_lines(4_000)
    shadow = Shadow(sample_every=256, last_path=last_path, package=package, recording=["sample.gz"])
    running = service(watched=True, shadow=shadow)
    with closing(shadow), served(running, tmp_path) as (address, path, steps):
        control = ["--control", str(path)]
        _, text = get(f"{address}/metrics")
        assert f'{CHECKS}{{feature_set="lob_shared_v1",result="mismatch"}} 0.0' in text.decode()
        assert f'{MISMATCHES}{{feature_id="_flags",feature_set="lob_shared_v1"}} 0.0' in text.decode()
        assert main(["shadow", "last", *control]) == 1
        assert main(["shadow", "set", "--sample-every", "16", *control]) == 0
        assert shadow.sample_every == 16
        assert main(["shadow", "set", "--sample-every", "0", *control]) == 2
        for line in lines:
            steps.queue.put(line)
        until_taken(running, len(lines))
        assert shadow.drain(WAIT_S)
        _, text = get(f"{address}/metrics")
        counts = shadow.counts
        assert counts.due == running.frames // 16
        assert (
            f'{CHECKS}{{feature_set="lob_shared_v1",result="mismatch"}} {counts.mismatch}.0' in text.decode()
        )
        named = f'{MISMATCHES}{{feature_id="ofi_l1_ema8",feature_set="lob_shared_v1"}}'
        assert f"{named} {counts.by_name['ofi_l1_ema8']}.0" in text.decode()
        capsys.readouterr()
        assert main(["shadow", "status", *control, "--json"]) == 0
        seen = json.loads(capsys.readouterr().out)
        assert (seen["mismatch"], seen["sample_every"]) == (counts.mismatch, 16)
        assert ask_service(path, "shadow/last/NONE") == {"last": None}
        shadow.close()
        assert main(["shadow", "last", "--symbol", "ETHUSDT", *control]) == 0
        told = capsys.readouterr().err
    assert "ofi_l1_ema8: live" in told
    assert "featureplane parity sample.gz --source binance-spot --symbol ETHUSDT" in told
    assert main(["shadow", "last", *control]) == 0
    left = capsys.readouterr()
    assert left.err.partition("\n")[2] == told
    assert left.err.startswith("from var/shadow_last.json: no service with a shadow answers, ")
    assert re.search(r"at +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", left.out)
    assert re.search(rf"pid +{os.getpid()}\n", left.out)


def test_a_service_without_a_shadow_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = service(settings=Settings())
    with served(running, tmp_path) as (address, path, _):
        _, text = get(f"{address}/metrics")
        assert f'{CHECKS}{{feature_set="lob_shared_v1",result="match"}} 0.0' in text.decode()
        for where, body in (("shadow", None), ("shadow/last", None), ("shadow", {"sample_every": 4})):
            with pytest.raises(StateError, match="no shadow"):
                ask_service(path, where, body)
    assert main(["shadow", "last", "--control", str(tmp_path / "none.sock")]) == 2
    assert "no service answers" in capsys.readouterr().err
