"""`featureplane run`: recordings through features, strategies and a paper venue, as a service."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from featureplane.cli.options import AllowCode, Json
from featureplane.cli.service_options import Feeding, Trading, Watching, given
from featureplane.cli.terminal import print_facts, print_json, say, say_error
from featureplane.errors import FeaturePlaneError

if TYPE_CHECKING:
    import socket

    from featureplane.services.configuration import ServiceConfiguration
    from featureplane.services.marketdata import MarketDataService

__all__ = ["run"]

_EXAMPLE: Final = (
    "featureplane run --source replay:ethusdt.gz --features lob_shared_v1 "
    "--strategy featureplane.strategy.examples.market_maker:SharedMarketMaker --venue paper"
)
_log = logging.getLogger(__name__)
_OFF: Final = "off"

FEEDING: Final = Feeding()
TRADING: Final = Trading()
WATCHING: Final = Watching()

run = App(
    name="run",
    help_epilogue="Exit status: 0 run to its end or told to end, or nothing to refuse; 1 every strategy was "
    "stopped by an error of its own, or with --check: something would be refused; 2 refused, or a feed that "
    "failed\n\n"
    f"Example:\n  {_EXAMPLE}",
)


@run.default
def start(
    *,
    config: Annotated[
        Path | None, Parameter(help="A TOML file with these names; what is said here goes before it.")
    ] = None,
    feeding: Feeding = FEEDING,
    trading: Trading = TRADING,
    watching: Watching = WATCHING,
    check: Annotated[
        bool, Parameter(show_default=False, help="Say what would be refused, and run nothing.")
    ] = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> int:
    """Run strategies on shared features as a service, until the feed ends or Ctrl-C."""
    from featureplane.services.configuration import read_configuration

    options = given(feeding, trading, watching)
    if check:
        return _check(config, options, allow_code=allow_code, json=json)
    with redirect_stdout(sys.stderr):  # standard output is for data, whatever a strategy prints
        answer = _serve(read_configuration(config, options), allow_code=allow_code)
    if json:
        print_json(answer)
    else:
        print_facts(answer)
    return 1 if _all_stopped(answer["strategies"]) else 0


def _all_stopped(strategies: Any) -> bool:
    """Whether there were strategies, and an error of its own stopped each."""
    return bool(strategies) and all(one["stopped_by"] is not None for one in strategies.values())


def _check(config: Path | None, options: dict[str, Any], *, allow_code: bool, json: bool) -> int:
    from featureplane.services.configuration import read_configuration
    from featureplane.services.preparation import problems

    found: list[FeaturePlaneError] = []
    with redirect_stdout(sys.stderr):
        try:
            asked = read_configuration(config, options)
        except FeaturePlaneError as error:
            found.append(error)
        else:
            found += problems(asked, allow_code=allow_code)
            try:
                with ExitStack() as stack:
                    _listen(asked, stack, look=True)
            except FeaturePlaneError as error:
                found.append(error)
    if json:
        print_json({"refused": [{"error": str(one), "hint": one.hint} for one in found]})
    else:
        for one in found:
            say_error(str(one), one.hint)
        if not found:
            say("nothing would be refused")
    return 1 if found else 0


def _serve(asked: ServiceConfiguration, *, allow_code: bool) -> dict[str, object]:
    """Run to the end; what came of it."""
    from featureplane.services.control import control_app
    from featureplane.services.health import WebServer, health_app
    from featureplane.services.preparation import prepare
    from featureplane.telemetry import log_to

    with ExitStack() as stack:
        stack.enter_context(log_to(sys.stderr, as_json=asked.log_json, level=asked.log_level))
        web, unix = _listen(asked, stack)
        prepared = prepare(asked, allow_code=allow_code)
        service = prepared.service
        for bound, app in ((web, health_app), (unix, control_app)):
            if bound is not None:
                server = WebServer(app(service), bound, app.__name__)
                server.start()
                stack.callback(server.stop)
        with prepared.diary, _until_told(service):
            service.run(prepared.source)
    return _answer(service)


def _listen(
    asked: ServiceConfiguration, stack: ExitStack, *, look: bool = False
) -> tuple[socket.socket | None, socket.socket | None]:
    """The sockets of /metrics and of commands, closed with the stack; refused before anything runs.

    `look`: whether they could be had; nothing is left of it.
    """
    from featureplane.errors import ExtraUnavailable
    from featureplane.services.configuration import CONTROL
    from featureplane.services.control import bind_unix, check_unix
    from featureplane.services.health import bind_tcp, require_web

    web = unix = None
    if asked.metrics is not None:
        require_web()
        web = stack.enter_context(bind_tcp(asked.metrics, remote=asked.remote))
    if asked.control != _OFF:
        try:
            require_web()
        except ExtraUnavailable as error:
            if asked.control != CONTROL:
                raise
            if not look:  # WHY at debug: nobody asked for a server
                _log.debug("strategies cannot be switched while running: %s; %s", error, error.hint)
            return web, None
        path = Path(asked.control)
        if look:
            check_unix(path)
            return web, None
        unix = stack.enter_context(bind_unix(path))
        stack.callback(path.unlink, missing_ok=True)
    return web, unix


@contextmanager
def _until_told(service: MarketDataService) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the service in order; a second one ends it as it ends any command."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def told(_number: int, _frame: FrameType | None) -> None:
        service.stop()
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer(service: MarketDataService) -> dict[str, object]:
    """What came of a run."""
    states = service.runner.states.values()
    return {
        "symbols": [one.symbol for one in service.runner.instruments],
        "feature_set": None if service.fset is None else service.fset.feature_set_id,
        "rollout": None if service.pilot is None else service.pilot.state.phase.value,
        "messages": service.messages,
        "frames": service.frames,
        "queue_dropped": service.queue.dropped,
        "reconnects": service.reconnects,
        "counts": {name: dict(counts) for name, counts in service.feed.counts.items() if counts},
        "strategies": {
            one.name: {
                "submitted": service.story.decisions[one.name, "submit"],
                "cancelled": service.story.decisions[one.name, "cancel"],
                "exceptions": dict(one.exceptions),
                "over_budget": dict(one.over_budget),
                "stopped_by": None if one.error is None else repr(one.error),
            }
            for one in states
        },
        "orders": dict(service.story.events),
        "refused": dict(service.story.refused),
    }
