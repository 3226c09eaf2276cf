"""Legacy forms beside shared ones: nobody hears of them, and they part where the forms themselves do."""

from __future__ import annotations

from typing import Any

import pytest

import featureplane as fp
from featureplane.errors import FeatureSetMismatch, StateError, UnknownStrategy
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.features.profiles import profile_of
from featureplane.services.marketdata import MarketDataService, StrategyForms
from featureplane.strategy.agreement import first_difference
from featureplane.strategy.compatibility import Forms
from featureplane.strategy.desk import Decision
from featureplane.strategy.examples import market_maker, ofi_taker
from featureplane.strategy.service import ServiceRunner
from tests.orders import WIDE
from tests.services import SYMBOL, V1, sample_lines, service
from tests.versions import Everything, accidents, made_up, play

EXAMPLES = pytest.mark.parametrize(
    "forms", [market_maker.FORMS, ofi_taker.FORMS], ids=["market_maker", "ofi_taker"]
)
UNREAD = profile_of(V1, "unread", {"depth_imbalance_ppm": {"levels": 4}})
QUICK = profile_of(V1, "quick", {"ofi_l1_ema8": {"span": 3}, "depth_imbalance_ema8_ppm": {"span": 3}})
LATE = PaperOptions(entry_ns=3_000_000, response_ns=2_000_000)


def running(
    forms: Forms, form: str = "shared", make: Any = service, **how: Any
) -> tuple[MarketDataService, Any]:
    """A service of one example in both forms, and the story of all it does."""
    strategy: Any = forms.make(form)
    strategy.name = "one"
    story = Everything()
    both = {"one": StrategyForms({"legacy": forms.legacy, "shared": forms.shared}, form)}
    return make(strategy, story=story, forms=both, **how), story


def items(most: int | None = None) -> list[Any]:
    """The sample."""
    return [(line, None, None) for line in sample_lines(most)]


@EXAMPLES
@pytest.mark.parametrize("paper", [None, LATE], ids=["at once", "late"])
@pytest.mark.parametrize("backend", ["auto", "python"])
def test_forms_that_decide_alike_are_found_to(forms: Forms, paper: PaperOptions | None, backend: str) -> None:
    """Begun with the service, with fills at once and late; nothing that is done becomes another thing."""
    lines = items(None if backend == "auto" else 5_000)
    plain, story = running(forms, paper=paper, backend=backend)
    play(plain, lines)
    watched, seen = running(forms, paper=paper, backend=backend)
    watched.rollout.compare(["one"])
    twin = watched.runner.twins["one"]
    play(watched, lines)
    decisions = [one for one in seen.said if isinstance(one, Decision)]
    assert seen.said == story.said
    last = [one for one in decisions if one.message == watched.runner.messages]
    assert twin.desk.agreed >= len(decisions) - len(last) > 10
    assert twin.desk.positions == watched.runner.states["one"].desk.positions
    assert not watched.rollout.divergences
    assert [one for one in seen.said if not isinstance(one, Decision) and one[1].is_fill]


@EXAMPLES
@pytest.mark.parametrize("seed", range(3))
def test_a_silent_form_parts_where_the_forms_part_alone(forms: Forms, seed: int) -> None:
    """Under accidents the examples' forms do part: at that very decision, and at no other."""
    stream = accidents(seed, 24_000, crossed=300)
    alone: dict[str, list[Decision]] = {}
    for form in ("legacy", "shared"):
        made, story = running(forms, form, made_up)
        play(made, stream)
        alone[form] = [one for one in story.said if isinstance(one, Decision)]
    wanted = first_difference(alone["legacy"], alone["shared"])
    beside, _ = running(forms, "shared", made_up)
    told: list[tuple[str, str]] = []
    beside.rollout.on_divergence = lambda name, why: told.append((name, why))
    beside.rollout.compare(["one"])
    play(beside, stream)
    if wanted is None:
        assert forms is ofi_taker.FORMS, "or this shows nothing"
        assert not beside.rollout.divergences
        return
    found = beside.rollout.first_divergence["one"]
    assert (found["agreed"], found["message"]) == (wanted.number, wanted.first.message)
    assert beside.rollout.divergences == {"one": 1}
    assert told == [("one", found["what"])]
    assert not beside.runner.twins, "behind that nothing can be compared"


def test_in_a_canary_a_divergence_is_told_behind_its_message_and_may_end_it() -> None:
    beside, _ = running(market_maker.FORMS)
    rollout, told = beside.rollout, list[tuple[str, str, int]]()

    def back(name: str, why: str) -> None:
        told.append((name, why, beside.runner.messages))
        assert rollout.withdraw() is QUICK

    rollout.on_divergence = back
    rollout.begin_candidate(QUICK)
    rollout.set_canary((), ["one"])
    assert rollout.about()["consuming"] == [f"one {SYMBOL}"]
    play(beside, items(8_000))
    ((name, why, message),) = told
    assert name == "one"
    assert rollout.first_divergence["one"]["message"] == message < 8_000
    assert why.startswith("decision ")
    assert "legacy" in why
    assert rollout.about()["candidate"] is None


@EXAMPLES
def test_begun_on_the_way_both_have_to_get_in_step_first(forms: Forms) -> None:
    """A set that gives the strategy the same numbers: it is handed over late, and they never part."""
    beside, _ = running(forms)
    rollout, seen = beside.rollout, list[tuple[int, str]]()
    for number, (line, _, _) in enumerate(items()):
        if number == 4_000:
            rollout.begin_candidate(UNREAD)
            rollout.set_canary((), ["one"])
            assert rollout.about()["waiting"]
        beside.take(line)
        about = rollout.about() if number % 16 == 0 else None
        if about and about["waiting"]:
            seen.append((number, about["waiting"][f"one {SYMBOL}"]))
    twin = beside.runner.twins["one"]
    assert twin.in_step
    assert any("in step" in why for _, why in seen)
    assert 4_500 < seen[-1][0] < 20_000
    assert beside.runner.consuming == {("one", SYMBOL)}
    assert twin.desk.agreed > 5
    assert not rollout.divergences
    beside.finish()


def test_a_form_that_never_gets_in_step_keeps_its_strategy_from_the_candidate() -> None:
    class Other(market_maker.LegacyMarketMaker):
        """Quotes a lot more."""

        def __init__(self) -> None:
            super().__init__(qty=11)

    forms = Forms(legacy=Other, shared=market_maker.SharedMarketMaker)
    beside, _ = running(forms)
    steps = {
        1_000: lambda: beside.rollout.begin_candidate(UNREAD),
        1_001: lambda: beside.rollout.set_canary((), ["one"]),
    }
    play(beside, items(12_000), steps)
    assert beside.runner.consuming == frozenset()
    assert "in step" in beside.rollout.about()["waiting"][f"one {SYMBOL}"]
    assert not beside.rollout.divergences


def test_a_silent_form_that_raises_is_told_of_and_hurts_nobody() -> None:
    class Broken(market_maker.LegacyMarketMaker):
        """Raises at some book."""

        books = 0

        def on_bid_ask(self, event: Any) -> None:
            super().on_bid_ask(event)
            self.books += 1
            if self.books == 300:
                raise ZeroDivisionError("own")

    forms = Forms(legacy=Broken, shared=market_maker.SharedMarketMaker)
    plain, story = running(forms)
    play(plain, items(6_000))
    beside, seen = running(forms)
    beside.rollout.compare(["one"])
    play(beside, items(6_000))
    assert seen.said == story.said
    assert beside.rollout.divergences == {"one": 1}
    assert beside.rollout.first_divergence["one"]["what"] == "the legacy form raised ZeroDivisionError: own"


def test_a_strategy_that_stops_or_is_switched_is_compared_no_more() -> None:
    class Dies(market_maker.SharedMarketMaker):
        """Raises after some frames."""

        frames = 0

        def on_features(self, frame: Any) -> None:
            super().on_features(frame)
            self.frames += 1
            if self.frames == 200:
                raise ZeroDivisionError

    beside, _ = running(Forms(legacy=market_maker.LegacyMarketMaker, shared=Dies))
    beside.rollout.compare(["one"])
    for line, _, _ in items(6_000):
        beside.take(line)
    assert not beside.runner.states["one"].is_running
    assert not beside.runner.twins
    assert not beside.rollout.divergences
    with pytest.raises(StateError, match="one does not run"):
        beside.runner.compare({"one": market_maker.LegacyMarketMaker()})
    with pytest.raises(UnknownStrategy):
        beside.runner.compare({"two": market_maker.LegacyMarketMaker()})
    beside.finish()
    switched, _ = running(market_maker.FORMS)
    switched.rollout.compare(["one"])
    for line, _, _ in items(1_000):
        switched.take(line)
    assert switched.set_form("one", "legacy")
    assert not switched.runner.twins
    with pytest.raises(StateError, match="one reads no features"):
        switched.runner.compare({"one": market_maker.LegacyMarketMaker()})
    switched.finish()


@EXAMPLES
def test_an_example_waits_for_all_it_reads_whatever_a_profile_makes_of_it(forms: Forms) -> None:
    """Averages of other lengths are warm in another order, at the beginning of each stream and day."""
    for fset in (QUICK, profile_of(V1, "slow", {"depth_imbalance_ema8_ppm": {"span": 40}})):
        alone, story = running(forms, fset=fset)
        play(alone, items(9_000))
        assert [one for one in story.said if isinstance(one, Decision)]


def test_in_a_canary_a_strategy_may_be_switched_and_comes_back_to_the_candidate() -> None:
    beside, _ = running(market_maker.FORMS)
    rollout, handed_at = beside.rollout, 0
    rollout.begin_candidate(UNREAD)
    rollout.set_canary((), ["one"])
    for number, (line, _, _) in enumerate(items()):
        if number == 2_000:
            assert beside.runner.consuming == {("one", SYMBOL)}
            beside.set_form("one", "legacy")
            assert beside.runner.consuming == frozenset()
            assert "shared form" in rollout.about()["waiting"][f"one {SYMBOL}"]
        if number == 3_000:
            beside.set_form("one", "off")
            beside.set_form("one", "shared")
            assert not beside.runner.twins["one"].in_step, "it begins anew, as the other does"
        beside.take(line)
        if number > 3_000 and not handed_at and beside.runner.consuming:
            handed_at = number
    assert 3_500 < handed_at < 20_000
    assert beside.runner.consuming == {("one", SYMBOL)}
    assert beside.runner.states["one"].strategy.ctx.get_feature_set_id() == UNREAD.feature_set_id
    assert not rollout.divergences
    with pytest.raises(FeatureSetMismatch):
        beside.runner.switch("one", Pinned("one"))
    assert beside.runner.consuming == {("one", SYMBOL)}, "the old one goes on"
    beside.finish()


class Pinned(market_maker.SharedMarketMaker):
    """Takes one set alone."""

    required_features = V1.fingerprint


def test_silent_forms_follow_events_too_and_end_with_the_engine() -> None:
    events = fp.sample_events().part(0, 30_000)
    shared = market_maker.SharedMarketMaker("one")
    told: list[Decision] = []
    runner = ServiceRunner(
        [shared],
        events.instruments,
        engine=fp.FeatureEngine(V1),
        venue=PaperVenue(events.instruments, stream=events.options),
        risk=RiskCheck(events.instruments, WIDE),
        stream=events.options,
    )
    runner._exchange.told = told.append
    runner.compare({"one": market_maker.LegacyMarketMaker()})
    twin = runner.twins["one"]
    runner.run(events)
    assert twin.why_over is None
    assert twin.desk.agreed >= len([one for one in told if one.message < runner.messages]) > 10
    door = shared.handles[SYMBOL][1]
    assert door.is_ready
    runner.use_engine(fp.FeatureEngine(QUICK))
    assert not runner.twins
    assert not door.is_ready, "nothing of the old engine"
    runner.run(fp.sample_events().part(0, 6_000))
    assert shared.ctx.get_feature_set_id() == QUICK.feature_set_id
    assert door.is_ready, "handles follow"
    with pytest.raises(StateError, match="no feature set here that messages go to"):
        runner.begin_candidate(UNREAD)
    runner.finish()
