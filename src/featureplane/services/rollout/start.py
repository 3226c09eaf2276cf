"""What a rollout asks of a service before it runs: the set to compute, and who steers it then.

Everything that can be refused is refused here. Leans on `pilot` and `features.loading`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featureplane.errors import FeaturePlaneError, SettingError, StateError, UnknownStrategy
from featureplane.features.catalog import registry
from featureplane.features.loading import resolve_feature_set
from featureplane.features.shadow import Shadow
from featureplane.features.spec import FeatureSet
from featureplane.release.criteria import Criteria, read_criteria
from featureplane.release.rollout import Phase, RolloutState, Version
from featureplane.services.rollout.pilot import RolloutPilot
from featureplane.services.rollout.steps import RolloutPlace, found_version
from featureplane.settings import Settings
from featureplane.strategy.api import BaseStrategy, check_features

if TYPE_CHECKING:
    from featureplane.services.marketdata import MarketDataService

__all__ = ["RolloutStart"]


@dataclass(frozen=True, slots=True)
class RolloutStart:
    """A rollout as it stands when a service starts."""

    place: RolloutPlace
    state: RolloutState
    criteria: Criteria

    @classmethod
    def read(cls, settings: Settings) -> RolloutStart:
        """As its files say.

        Raises `UnreadableFile` for a state that is damaged, and as `read_criteria`.
        """
        place = RolloutPlace(settings.rollout_state_path)
        return cls(place, place.file.read(), read_criteria(place.criteria))

    def features(
        self, given: str | None, required: Iterable[str], *, allow_code: bool
    ) -> tuple[FeatureSet, Version]:
        """The set to compute: the rollout's active version, else what is `given`, else `required` first.

        Raises `SettingError` where another set is given than is active, for one that was rolled back, and
        where none is named; and what loading it raises.
        """
        active = self.state.active
        if active is not None:
            return self._active(active, given, allow_code=allow_code), active
        wanted = given or next(iter(required), None)
        if wanted is None:
            hint = "--features names a set; HFT_FEATURE_ENGINE_ENABLED=0 runs without any"
            raise SettingError("no feature set is named", hint=hint)
        version, fset = found_version(wanted, allow_code=allow_code)
        if fset.fingerprint in self.state.bad:
            hint = (
                f"`featureplane rollout status` says why; to look into it, name another place than "
                f"{self.place.state} in HFT_FEATURE_ROLLOUT_STATE_PATH"
            )
            raise SettingError(f"{version} was rolled back", hint=hint)
        return registry.register(fset) if fset.feature_set_id in registry else fset, version

    def _active(self, active: Version, given: str | None, *, allow_code: bool) -> FeatureSet:
        if given is not None:
            other = resolve_feature_set(given, allow_code=allow_code)
            if other.fingerprint != active.fingerprint:
                hint = f"leave --features out; `featureplane rollout shadow {given}` makes it a candidate"
                raise SettingError(
                    f"--features {given}, but {active} is the rollout's active version", hint=hint
                )
        return self.place.versions.load(active, allow_code=allow_code)

    def check(self, strategies: Sequence[BaseStrategy], *, allow_code: bool) -> None:
        """Refuse by name who is to consume the candidate and is not there, or does not accept it.

        A candidate that cannot be loaded is left, and the status says why.
        """
        state = self.state
        if state.phase is not Phase.CANARY or state.candidate is None:
            return
        try:
            fset = self.place.versions.load(state.candidate, allow_code=allow_code)
        except FeaturePlaneError:
            return
        by_name = {one.name: one for one in strategies}
        for name in state.canary_strategies:
            if name not in by_name:
                raise UnknownStrategy(name, "this service, and the rollout's canary lists it", list(by_name))
            try:
                check_features(by_name[name], fset)
            except Exception as error:
                why = f"{name} does not accept the candidate {state.candidate}: {error}"
                hint = "`featureplane rollout canary` lists others, `rollback` withdraws the candidate"
                raise StateError(why, hint=hint) from error

    def steer(
        self,
        service: MarketDataService,
        settings: Settings,
        computed: Version | None,
        shadow_for: Callable[[FeatureSet], Shadow | None],
        *,
        allow_code: bool,
    ) -> None:
        """Let a service follow it."""
        service.pilot = RolloutPilot(
            service,
            self.place,
            self.state,
            self.criteria,
            shadow_for=shadow_for,
            computed=computed,
            abs_tol=settings.shadow_abs_tol,
            sample_every=settings.shadow_sample_every,
            allow_code=allow_code,
        )
