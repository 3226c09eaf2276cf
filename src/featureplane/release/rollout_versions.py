"""What the versions of a rollout are, kept beside its state: a way back depends on no file of anybody's.

Each is a TOML file named by its fingerprint, in `<state>.versions`. Leans on `rollout` and
`features.loading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from featureplane.errors import FeaturePlaneError, FeatureSetMismatch, StateError
from featureplane.features.catalog import registry
from featureplane.features.loading import load_feature_set, to_toml
from featureplane.features.spec import FeatureSet
from featureplane.release.rollout import RolloutState, Version
from featureplane.whole_file import WholeFile

__all__ = ["KeptVersions"]


class KeptVersions:
    """The definitions in a folder, which is made when there is one to keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, version: Version, *, allow_code: bool = False) -> FeatureSet:
        """The set of a version: shipped, or as it was kept; only where it was not, as its source has it now.

        Raises `StateError` where neither has it: which version, where it was looked for, and what to do.
        """
        if version.source in registry and registry.get(version.source).fingerprint == version.fingerprint:
            return registry.get(version.source)
        try:
            return self._kept(version)
        except FeaturePlaneError as error:
            kept = error
        try:
            return version.load(allow_code=allow_code)
        except FeaturePlaneError as error:
            raise self._gone(version, kept, error) from None

    def _gone(self, version: Version, kept: FeaturePlaneError, source: FeaturePlaneError) -> StateError:
        why = f"it is neither kept in {self._path(version)} ({kept}) nor in {version.source} ({source})"
        hint = (
            "put one of the two back as it was, from a copy; or go on without it: "
            "`featureplane rollout rollback --cause config` returns to the last good version"
        )
        return StateError(f"{version} cannot be computed: {why}", hint=hint)

    def where(self, fset: FeatureSet) -> Path | None:
        """The file that has a set, as `load_feature_set` takes it; None where none does."""
        path = self.folder / f"{fset.fingerprint}.toml"
        return path.absolute() if path.is_file() else None

    def keep(self, state: RolloutState, sets: Mapping[str, FeatureSet], *, allow_code: bool = False) -> None:
        """Keep the versions that a state could need: those in `sets`, by fingerprint; others as they are now.

        Raises `StateError` where one of `sets` cannot be kept: without a way back no step is taken. Others
        are of a state from before versions were kept; nothing can be done where their sources are gone.
        """
        needed = {one.fingerprint: one for one in (state.active, state.candidate, *state.good) if one}
        for version in needed.values():
            if self._is_kept(version):
                continue
            fset = sets.get(version.fingerprint)
            if fset is not None:
                self._write(version, fset)
                continue
            try:
                self._write(version, version.load(allow_code=allow_code))
            except FeaturePlaneError:
                continue

    def _is_kept(self, version: Version) -> bool:
        try:
            self._kept(version)
        except FeaturePlaneError:
            return False
        return True

    def _path(self, version: Version) -> Path:
        return self.folder / f"{version.fingerprint}.toml"

    def _kept(self, version: Version) -> FeatureSet:
        found = load_feature_set(self._path(version))
        if found.fingerprint != version.fingerprint:
            raise FeatureSetMismatch(
                version.fingerprint, found.fingerprint, f"{self._path(version)} is damaged"
            )
        # WHY: the id of a profile cannot be written in TOML, and is no part of the fingerprint
        return FeatureSet(version.feature_set_id, found.schema_version, found.features)

    def _write(self, version: Version, fset: FeatureSet) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with WholeFile(self._path(version)) as file:
                file.part.write_text(to_toml(fset), encoding="utf-8")
            self._kept(version)
        except (FeaturePlaneError, OSError) as error:
            why = f"the rollout is frozen: {version} cannot be kept in {self.folder} ({error})"
            hint = "nothing was changed; make room, or the place writable, and ask again"
            raise StateError(why, hint=hint) from None
