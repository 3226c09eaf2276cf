"""From a configuration to a service that can run: everything that can be refused is, before anything runs.

`problems` says all of what would be refused, `prepare` raises the first of it. Nothing is written or
listened to until then. Leans on everything a service is made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from featureplane import __version__, native
from featureplane.errors import FeaturePlaneError, SettingError, UnknownSymbol
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.desk import terms_of
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.features.catalog import registry
from featureplane.features.pipeline import Pipeline
from featureplane.features.shadow import Shadow
from featureplane.features.spec import FeatureSet
from featureplane.market.feed import MessageFeed
from featureplane.market.instruments import Instrument, infer, load_instruments
from featureplane.market.sources import find_source, source_names
from featureplane.market.sources.detect import guess_source
from featureplane.release.rollout import Version
from featureplane.services.configuration import SHADOW_LAST, ServiceConfiguration, nearest, plain
from featureplane.services.diary import Diary
from featureplane.services.marketdata import MarketDataService, StrategyForms
from featureplane.services.raw_queue import RawQueue
from featureplane.services.recorder import Recorder, check_folder
from featureplane.services.replay_source import (
    ReplaySource,
    parse_replay,
    recorded_instruments,
    recorded_states,
    starts,
)
from featureplane.services.rollout.start import RolloutStart
from featureplane.services.rollout.steps import RolloutPlace
from featureplane.services.story import Story
from featureplane.strategy.api import BaseStrategy, required_by
from featureplane.strategy.loading import load_either, make
from featureplane.strategy.service import ServiceRunner
from featureplane.telemetry import LOG_LEVELS
from featureplane.units import NANOS_PER_MICRO

__all__ = ["VENUES", "Prepared", "prepare", "problems"]

VENUES: Final = ("paper",)
"""Venues that orders can go to."""

_NAME: Final = "="

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A service and its feed, ready to run."""

    service: MarketDataService
    source: ReplaySource
    diary: AbstractContextManager[object]
    """Entered while it runs: log and numbers are recorded then, where anything is."""


@dataclass(frozen=True, slots=True)
class _Market:
    """Where messages come from and what they are about."""

    paths: tuple[Path, ...]
    speed: float | None
    venue: str
    instruments: tuple[Instrument, ...]
    states: Mapping[str, bytes]
    """From which a recording goes on that begins amid a stream."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A strategy, and the forms it comes in."""

    strategy: BaseStrategy
    forms: StrategyForms


def problems(asked: ServiceConfiguration, *, allow_code: bool = False) -> list[FeaturePlaneError]:
    """Everything that would be refused, in order. Strategies are made and started for that, and not run."""
    found: list[FeaturePlaneError] = []

    def attempt(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except FeaturePlaneError as error:
            if str(error) not in {str(one) for one in found}:
                found.append(error)
            return None

    paper = attempt(lambda: _paper(asked))
    attempt(lambda: _check_words(asked))
    attempt(lambda: native.resolve(_backend(asked)))
    market = attempt(lambda: _market(asked))
    made = attempt(lambda: _strategies(asked, allow_code=allow_code))
    start = attempt(lambda: RolloutStart.read(asked.settings))
    computed = (
        None if start is None else attempt(lambda: _features(asked, start, made or [], allow_code=allow_code))
    )
    fset = None if computed is None else computed[0]
    if start is not None and made is not None:
        attempt(lambda: start.check([one.strategy for one in made], allow_code=allow_code))
    if not found and paper is not None and market is not None and made is not None:
        attempt(lambda: _service(asked, market, made, fset, paper))
    if market is not None and asked.record is not None:
        folder = Path(asked.record)
        attempt(lambda: check_folder(folder, market.venue, market.instruments, fset))
    return found


def prepare(asked: ServiceConfiguration, *, allow_code: bool = False) -> Prepared:
    """A service and its feed; raises the first of what is refused."""
    paper = _paper(asked)
    _check_words(asked)
    native.resolve(_backend(asked))
    market = _market(asked)
    made = _strategies(asked, allow_code=allow_code)
    start = RolloutStart.read(asked.settings)
    fset, version = _features(asked, start, made, allow_code=allow_code) or (None, None)
    start.check([one.strategy for one in made], allow_code=allow_code)
    service = _service(asked, market, made, fset, paper)
    start.steer(
        service, asked.settings, version, lambda one: _shadow(asked, market, one), allow_code=allow_code
    )
    diary = nullcontext() if asked.record is None else _record(asked, market, service)
    return Prepared(service, _source(market), diary)


def _record(asked: ServiceConfiguration, market: _Market, service: MarketDataService) -> Diary:
    """Let the service be recorded."""
    folder = Path(asked.record or "")

    def states() -> dict[str, bytes] | None:
        return service.feed.save() if isinstance(service.feed, Pipeline) else None

    most, keep = asked.record_mb << 20, asked.record_keep_mb << 20
    about = {"version": __version__, **service.about(), "configuration": plain(asked)}
    diary = Diary(folder, service.telemetry.publish, about, bytes_max=most, keep_bytes=keep)
    recorder = Recorder(
        folder,
        market.venue,
        market.instruments,
        service.fset,
        bytes_max=most,
        keep_bytes=keep,
        states=states,
        diary=diary,
    )
    service.subscribe(recorder)
    return diary


def _backend(asked: ServiceConfiguration) -> str:
    """The command line's, else the environment's, else the file's."""
    return asked.settings.engine_backend if asked.backend == "auto" else asked.backend


def _paper(asked: ServiceConfiguration) -> PaperOptions:
    if asked.venue not in VENUES:
        raise SettingError(f"venue {asked.venue!r} is not configured", hint=nearest(asked.venue, VENUES))
    return PaperOptions(**terms_of(asked))


def _check_words(asked: ServiceConfiguration) -> None:
    for name, value, words in (
        ("log_level", asked.log_level, LOG_LEVELS),
        ("backend", asked.backend, ("auto", "rust", "python")),
        ("shadow_mode", asked.shadow_mode, ("sample", "full")),
    ):
        if value not in words:
            raise SettingError(f"{name}={value!r}", hint=nearest(value, words))


def _market(asked: ServiceConfiguration) -> _Market:
    paths, speed = parse_replay(asked.source)
    starts(paths)
    described = asked.instruments or recorded_instruments(asked.source)
    known = None if described is None else load_instruments(described)
    able = [name for name in source_names() if find_source(name).takes_messages]
    venue = asked.feed
    if venue is None:
        venues = {one.venue for one in known or () if not asked.symbol or one.symbol in asked.symbol}
        guessed_from = [str(path) for path in paths]
        venue = venues.pop() if len(venues) == 1 else guess_source(guessed_from, option="--feed")
    if venue not in able:
        raise SettingError(f"feed {venue!r}", hint=nearest(venue, able))
    if known is None:
        given = [str(path) for path in paths]
        known = infer(given, venue, backend=_backend(asked), on_malformed="drop")
    here = [one for one in known if one.venue == venue]
    wanted = _wanted(here, asked.symbol)
    states = recorded_states(asked.source)
    symbols = {one.symbol for one in wanted}
    return _Market(
        paths, speed, venue, wanted, {name: state for name, state in states.items() if name in symbols}
    )


def _wanted(known: list[Instrument], symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
    names = [one.symbol for one in known]
    for symbol in symbols:
        if symbol not in names:
            raise UnknownSymbol(symbol, names)
    if not symbols and len(names) != 1:
        hint = f"name those that are wanted; there are: {', '.join(names)}"
        raise SettingError("which symbols are meant is not clear", hint=hint)
    return tuple(one for one in known if not symbols or one.symbol in symbols)


def _strategies(asked: ServiceConfiguration, *, allow_code: bool) -> list[_Made]:
    made = [_strategy(asked, text, allow_code=allow_code) for text in asked.strategy]
    names = Counter(one.strategy.name for one in made)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        hint = "give one of them a name of its own: --strategy NAME=module:Class"
        raise SettingError(f"two strategies are called {twice[0]}", hint=hint)
    return made


def _strategy(asked: ServiceConfiguration, text: str, *, allow_code: bool) -> _Made:
    name, _, where = text.rpartition(_NAME) if _NAME in text else ("", "", text)
    found = load_either(where, allow_code=allow_code)
    if isinstance(found, type):
        first = "shared" if required_by(found) else "legacy"
        makers: dict[str, Callable[[], BaseStrategy]] = {first: found}
    else:
        makers = {"legacy": found.legacy, "shared": found.shared}
        cls_name = where.rpartition(":")[2]
        named = [form for form, make in makers.items() if getattr(make, "__name__", "") == cls_name]
        first = named[0] if named else "shared" if asked.settings.engine_enabled else "legacy"
    strategy = make(makers[first], where)
    strategy.name = name or strategy.name
    return _Made(strategy, StrategyForms(makers, first))


def _features(
    asked: ServiceConfiguration, start: RolloutStart, made: list[_Made], *, allow_code: bool
) -> tuple[FeatureSet, Version] | None:
    """The set to compute, None where the engine is switched off; then no name is looked up."""
    if not asked.settings.engine_enabled:
        return None
    required = [name for one in made for name in required_by(one.strategy)]
    return start.features(asked.features, required, allow_code=allow_code)


def _source(market: _Market) -> ReplaySource:
    return ReplaySource(market.paths, market.speed, [one.symbol for one in market.instruments])


def _service(
    asked: ServiceConfiguration,
    market: _Market,
    made: list[_Made],
    fset: FeatureSet | None,
    paper: PaperOptions,
) -> MarketDataService:
    backend, settings = _backend(asked), asked.settings
    given, drop = (market.venue, market.instruments), "drop"
    feed: Pipeline | MessageFeed
    if fset is None:
        feed = MessageFeed(*given, backend=backend, live=False, on_malformed=drop)
    else:
        feed = Pipeline(fset, *given, backend=backend, live=False, on_malformed=drop)
    story, source = Story(), _source(market)
    if isinstance(feed, Pipeline) and market.states:
        feed.go_on_from(market.states)
    runner = ServiceRunner(
        [one.strategy for one in made],
        feed.instruments,
        engine=feed,
        venue=PaperVenue(feed.instruments, paper, stream=feed.options),
        risk=RiskCheck(feed.instruments, asked.limits),
        budget_ns=asked.budget_us * NANOS_PER_MICRO,
        emit_features=settings.engine_emit_events,
        listener=story,
        backend=backend,
    )
    if isinstance(feed, Pipeline) and market.states:
        runner.show_books(feed.standing_books)
    return MarketDataService(
        runner,
        feed,
        settings=settings,
        story=story,
        forms={one.strategy.name: one.forms for one in made},
        queue=RawQueue(asked.queue, whose=source.whose),
        answers_ns=paper.entry_ns + paper.response_ns + 1,
        watched=asked.metrics is not None,
        shadow=_shadow(asked, market),
    )


def _shadow(
    asked: ServiceConfiguration, market: _Market, candidate: FeatureSet | None = None
) -> Shadow | None:
    """The other backend's shadow, or that of a candidate; None where shadows are switched off."""
    described = asked.instruments or recorded_instruments(asked.source)
    versions = RolloutPlace(asked.settings.rollout_state_path).versions

    def named(fset: FeatureSet) -> str:
        """As a command finds it that is run elsewhere."""
        set_id, file = fset.feature_set_id, versions.where(fset)
        if set_id in registry and registry.get(set_id).fingerprint == fset.fingerprint:
            return set_id
        if file is None and candidate is None and asked.features is not None:
            file = Path(asked.features).absolute()
        return set_id if file is None else str(file)

    return Shadow.of(
        asked.settings,
        candidate,
        mode=asked.shadow_mode,
        last_path=Path(SHADOW_LAST),
        recording=[str(path.absolute()) for path in market.paths],
        reading=() if described is None else ("--instruments", str(Path(described).absolute())),
        named=named,
    )
