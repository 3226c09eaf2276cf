"""What can be asked of a running service, and who may ask."""

from __future__ import annotations

import json
import socket
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from featureplane.cli.app import main
from featureplane.errors import SettingError, StateError
from featureplane.features.profiles import profile_of
from featureplane.services.control import ask_service, bind_unix, control_app
from featureplane.services.health import WebServer, bind_tcp, health_app
from featureplane.services.marketdata import MarketDataService, StrategyForms
from featureplane.services.raw_queue import RawQueue
from featureplane.settings import Settings
from featureplane.strategy.examples import market_maker
from tests.services import SYMBOL, V1, Lines, sample_lines, service

MAKERS = {"legacy": market_maker.LegacyMarketMaker, "shared": market_maker.SharedMarketMaker}


class Steps:
    """Lines that are let go part by part."""

    def __init__(self) -> None:
        self.queue = RawQueue(1 << 20)
        self.is_stopped = threading.Event()

    waits = False

    def items(self) -> Iterator[Any]:
        raise NotImplementedError

    def run(self, _queue: RawQueue) -> None:
        self.is_stopped.wait(60)

    def stop(self) -> None:
        self.is_stopped.set()


@contextmanager
def served(running: MarketDataService, folder: Path) -> Iterator[tuple[str, Path, Steps]]:
    """A service that runs and is asked: the address, the socket, and its feed."""
    tcp, path, steps = bind_tcp("127.0.0.1:0"), folder / "s.sock", Steps()
    steps.queue = running.queue
    servers = [
        WebServer(health_app(running), tcp, "web"),
        WebServer(control_app(running), bind_unix(path), "control"),
    ]
    address = f"http://127.0.0.1:{tcp.getsockname()[1]}"
    thread = threading.Thread(target=running.run, args=(steps,))
    thread.start()
    for server in servers:
        server.start()
    try:
        yield address, path, steps
    finally:
        running.stop()
        thread.join(20)
        for server in servers:
            server.stop()
    assert not thread.is_alive()


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def until_taken(running: MarketDataService, messages: int) -> None:
    ends = time.monotonic() + 60
    while running.messages < messages:
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_metrics_are_the_exact_counts(tmp_path: Path) -> None:
    lines = sample_lines(6000)
    lines.insert(3000, b"what")
    strategy = market_maker.SharedMarketMaker("mm")
    running = service(strategy, watched=True, settings=Settings(latency_sample_every=3))
    with served(running, tmp_path) as (address, _, steps):
        for line in lines:
            steps.queue.put(line)
        until_taken(running, len(lines))
        status, text = get(f"{address}/metrics")
        counts, story = running.feed.counts, running.story
    assert status == 200
    samples = {
        (one.name, *sorted(one.labels.values())): one.value
        for family in parsed(text.decode())
        for one in family.samples
        if not one.name.endswith("_bucket")
    }
    assert samples["messages_total",] == len(lines)
    assert samples["feature_plane_updates_total", "emitted", "lob_shared_v1"] == running.frames > 300
    assert samples["feature_plane_updates_total", "error", "lob_shared_v1"] == 1
    for reason, count in counts["dropped"].items():
        assert samples["events_dropped_total", reason] == count
    assert samples["book_broken_total", "malformed"] == counts["broken"]["malformed"] == 1
    assert samples["feature_resets_total", "recovery"] == counts["resets"]["recovery"] > 0
    assert samples["feature_quality_flags_total", "state_reset"] == counts["flags"]["STATE_RESET"] > 0
    assert samples["raw_queue_depth",] == samples["raw_queue_dropped_total",] == 0
    assert samples["strategy_decisions_total", "mm", "submit"] > 10
    assert samples["strategy_decisions_total", "mm", "submit"] <= story.decisions["mm", "submit"]
    assert samples["order_events_total", "accepted"] == story.events["accepted"]
    assert samples["strategy_running", "mm"] == 1
    assert samples["book_whole", SYMBOL] == samples["features_ready", SYMBOL] == 1
    about = sorted(("lob_shared_v1", V1.fingerprint, running.feed.backend))
    assert samples["feature_set_info", *about] == 1
    assert samples["pipeline_latency_ns_count", "normalize"] == len(lines) // 3
    assert samples["pipeline_latency_ns_count", "features"] == samples["feature_plane_latency_ns_count",]
    assert samples["pipeline_latency_ns_count", "dispatch"] == len(lines) // 3
    assert samples["pipeline_latency_ns_sum", "features"] > 0
    assert 0 < samples["feature_plane_latency_ns_count",] < running.frames


def test_ready_is_what_can_be_relied_on(tmp_path: Path) -> None:
    lines, running = sample_lines(3000), service()
    with served(running, tmp_path) as (address, _, steps):
        status, text = get(f"{address}/readyz")
        assert (status, json.loads(text)["ready"]) == (503, False)
        assert json.loads(text)["symbols"] == {SYMBOL: "its book is not whole"}
        for line in lines:
            steps.queue.put(line)
        until_taken(running, len(lines))
        status, text = get(f"{address}/readyz")
        assert (status, json.loads(text)) == (200, {"ready": True, "symbols": {SYMBOL: "ready"}})
        steps.queue.reconnect(SYMBOL)
        steps.queue.put(lines[-1])
        until_taken(running, len(lines) + 1)
        assert get(f"{address}/readyz")[0] == 503
        assert get(f"{address}/healthz") == (
            200,
            json.dumps(
                {"messages": len(lines) + 1, "frames": running.frames, "over": False}, separators=(",", ":")
            ).encode(),
        )
        running.stop()
        ends = time.monotonic() + 20
        while get(f"{address}/healthz")[0] == 200:
            assert time.monotonic() < ends
        assert get(f"{address}/readyz")[0] == 503
        assert get(f"{address}/metrics")[0] == 200
        assert get(f"{address}/strategies")[0] == 404, "no switch can be thrown over a port"


def test_ready_names_both_versions_while_there_are_two(tmp_path: Path) -> None:
    """And who waits for what; whoever does consumes the active set, so that it is ready all the same."""
    lines, running = sample_lines(3000), service(market_maker.SharedMarketMaker("mm"))
    slow = profile_of(V1, "slow", {"ofi_l1_ema8": {"span": 60_000}})
    with served(running, tmp_path) as (address, _, steps):
        for line in lines:
            steps.queue.put(line)
        until_taken(running, len(lines))
        running.ask(lambda: running.rollout.begin_candidate(slow), 20)
        running.ask(lambda: running.rollout.set_canary((), ["mm"]), 20)
        status, text = get(f"{address}/readyz")
        said = json.loads(text)
        assert (status, said["ready"], said["consuming"]) == (200, True, [])
        assert said["active"]["feature_set"] == "lob_shared_v1"
        assert said["candidate"] == {"feature_set": "lob_shared_v1@slow", "fingerprint": slow.fingerprint}
        assert "ofi_l1_ema8" in said["waiting"][f"mm {SYMBOL}"]
        running.ask(running.rollout.withdraw, 20)
        assert json.loads(get(f"{address}/readyz")[1]) == {"ready": True, "symbols": {SYMBOL: "ready"}}


def test_a_book_that_lost_a_message_is_not_ready_even_if_nothing_more_comes(tmp_path: Path) -> None:
    lines = sample_lines(3000)
    running = service(queue=RawQueue(1 << 20, whose=lambda _: SYMBOL))
    with served(running, tmp_path) as (address, _, steps):
        for line in lines:
            steps.queue.put(line)
        until_taken(running, len(lines))
        assert get(f"{address}/readyz")[0] == 200
        steps.queue.messages_max = 0
        assert not steps.queue.put(lines[-1])
        steps.queue.wake()
        ends = time.monotonic() + 20
        while get(f"{address}/readyz")[0] == 200:
            assert time.monotonic() < ends
        assert running.queue_breaks == 1


def test_a_message_that_takes_long_is_no_reason_not_to_answer(tmp_path: Path) -> None:
    running, begun, release = service(watched=True), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(30)

    with served(running, tmp_path) as (address, _, _steps):
        thread = threading.Thread(target=running.ask, args=(work, 60))
        thread.start()
        assert begun.wait(20)
        assert get(f"{address}/metrics")[0] == 200
        status, text = get(f"{address}/readyz")
        assert (status, json.loads(text)["why"]) == (503, "a message takes longer than that")
        release.set()
        thread.join(20)


def test_a_strategy_is_switched_from_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = sample_lines(3000)
    running = service(market_maker.SharedMarketMaker("mm"), forms={"mm": StrategyForms(MAKERS, "shared")})
    with served(running, tmp_path) as (_, path, steps):
        for line in lines:
            steps.queue.put(line)
        until_taken(running, len(lines))
        where = ["--control", str(path)]
        assert main(["strategy", "list", *where, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"strategies": {"mm": "shared"}}
        for form, said in (
            ("legacy", "mm: legacy\n"),
            ("legacy", "mm: legacy already\n"),
            ("off", "mm: off\n"),
        ):
            assert main(["strategy", "set", "mm", form, *where]) == 0
            assert capsys.readouterr().err == said
        assert running.forms() == {"mm": "off"}
        assert main(["strategy", "set", "mm", "shared", *where, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer == {
            "strategy": "mm",
            "form": "shared",
            "changed": True,
            "message": running.runner.messages,
        }
        assert main(["strategy", "set", "mmm", "off", *where]) == 2
        told = capsys.readouterr().err
        assert "no strategy 'mmm' in this service" in told
        assert "did you mean mm?" in told
        assert main(["strategy", "list", *where]) == 0
        assert capsys.readouterr().out.split() == ["mm", "shared"]
    assert main(["strategy", "set", "mm", "off", *where]) == 2
    assert "no service answers" in capsys.readouterr().err


def test_a_switch_that_is_refused_leaves_everything_as_it_is(tmp_path: Path) -> None:
    def broken() -> Any:
        raise RuntimeError("on purpose")

    running = service(
        market_maker.SharedMarketMaker("mm"), forms={"mm": StrategyForms({"legacy": broken}, "shared")}
    )
    with served(running, tmp_path) as (_, path, _steps):
        with pytest.raises(StateError, match="RuntimeError: on purpose") as caught:
            ask_service(path, "strategies/mm", {"form": "legacy"})
        assert caught.value.hint == "the old one goes on"
        assert not ask_service(path, "strategies/mm", {"form": "shared"})["changed"]
        ask_service(path, "strategies/mm", {"form": "off"})
        with pytest.raises(StateError, match="mm has no shared form") as caught:
            ask_service(path, "strategies/mm", {"form": "shared"})
        assert caught.value.hint == "it has: legacy, off"
        for body in ({"form": 5}, {"from": "off"}, {"form": "x" * 70_000}):
            with pytest.raises(StateError, match="no form"):
                ask_service(path, "strategies/mm", body)
        with pytest.raises(StateError, match="no strategy 'm/m'"):
            ask_service(path, "strategies/m/m", {"form": "off"})


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("8000", "--metrics 8000"),
        ("127.0.0.1:", "--metrics 127.0.0.1:"),
        ("127.0.0.1:99999", "--metrics 127.0.0.1:99999"),
        ("0.0.0.0:0", "could be reached from elsewhere"),
        ("192.0.2.1:0", "could be reached from elsewhere"),
        ("example.invalid:0", "could be reached from elsewhere"),
        ("[::]:0", "could be reached from elsewhere"),
    ],
)
def test_an_address_is_of_this_machine(address: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        bind_tcp(address)
    assert said in str(caught.value)


def test_a_port_in_use_is_refused() -> None:
    with bind_tcp("localhost:0") as there:
        with pytest.raises(SettingError, match="the port is in use"):
            bind_tcp(f"127.0.0.1:{there.getsockname()[1]}")
        assert there.getsockname()[0] == "127.0.0.1"


def test_an_address_that_is_not_of_this_machine_is_refused_even_when_asked_for() -> None:
    with pytest.raises(SettingError, match="--metrics 192"):
        bind_tcp("192.0.2.1:0", remote=True)


def test_a_socket_is_for_its_owner_and_replaces_what_nobody_listens_at(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.sock"
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(SettingError, match="a service answers there"):
            bind_unix(path)
    with bind_unix(path), socket.socket(socket.AF_UNIX) as other:
        other.connect(str(path))
    path.unlink()
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(SettingError, match="there is a file"):
        bind_unix(path)
    assert path.read_text(encoding="utf-8") == "mine"
    with pytest.raises(SettingError, match="too long"):
        bind_unix(tmp_path / ("x" * 120))
    with pytest.raises(SettingError, match="is no folder to write to"):
        bind_unix(path / "s.sock")


def test_lines_that_wait_are_asked_between_two_messages() -> None:
    running = service()
    answers: list[int] = []
    asker = threading.Thread(target=lambda: answers.append(running.ask(lambda: running.messages, 20)))

    def lines() -> Iterator[bytes]:
        for number, line in enumerate(sample_lines(300)):
            if number == 200:
                asker.start()
                while not running._asked:
                    time.sleep(0.001)
            yield line

    running.run(Lines(lines()))
    asker.join(20)
    assert answers == [200]
