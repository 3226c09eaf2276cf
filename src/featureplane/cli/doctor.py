"""`featureplane doctor`: what is installed, what is not, and the fix for each gap."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from cyclopts import App
from rich.table import Table
from rich.text import Text

from featureplane import __version__, native
from featureplane.cli.options import Json
from featureplane.cli.terminal import print_json, print_table, say
from featureplane.errors import SettingError
from featureplane.settings import SETTINGS, read_settings

__all__ = ["Finding", "doctor", "examine"]

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['\"]([^'\"]+)['\"])?")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer. `state` is ok, absent (nothing needs it) or broken."""

    part: str
    state: str
    found: str
    fix: str = ""


_FROM_SOURCES = Finding(
    "extras", "absent", "not installed, extras unknown", "install the package: pip install -e ."
)


def examine() -> list[Finding]:
    """Everything worth knowing about this installation, in the order of its weight."""
    core, extras = _requirements()
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.machine()} {platform.system()}"),
        Finding("featureplane", "ok", f"{__version__} in {Path(__file__).parents[1]}"),
        _native(),
        _settings(),
        *(_distributions(name, [name], broken=True) for name in core),
        *(_distributions(f"[{extra}]", names, broken=False) for extra, names in extras.items()),
        *([] if core else [_FROM_SOURCES]),
    ]


def _native() -> Finding:
    """The Rust backend: there, not built, or there and unusable."""
    built = sorted(Path(__file__).parents[1].glob("_native*.so"))
    if native.available():
        version = str(native.module().__version__)
        if version == __version__:
            return Finding("rust backend", "ok", version)
        return Finding(
            "rust backend", "broken", f"{version}, built from another version", "build it again: make demo"
        )
    if built:
        return Finding(
            "rust backend", "broken", native.why_not(), f"remove {built[0]}, then build it again: make demo"
        )
    return Finding(
        "rust backend",
        "absent",
        "computing with the Python reference: the same bits, some 100 x slower",
        "install Rust (https://rustup.rs), then: make demo",
    )


def _settings() -> Finding:
    """The settings of the environment: those that are not as by default, or what is wrong with them."""
    try:
        settings = read_settings()
    except SettingError as error:
        return Finding("settings", "broken", str(error), error.hint or "")
    values = [(one, getattr(settings, one.field)) for one in SETTINGS]
    changed = [
        f"{one.variable}={int(value) if isinstance(value, bool) else value}"
        for one, value in values
        if value != one.default
    ]
    return Finding("settings", "ok", ", ".join(changed) or "as by default")


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """What the installed package asks for: the core, and each extra that names packages itself."""
    try:
        requirements = metadata.requires("featureplane") or []
    except metadata.PackageNotFoundError:
        return [], {}
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None or match[1] == "featureplane":
            continue
        (extras.setdefault(match[2], []) if match[2] else core).append(match[1])
    return core, extras


def _distributions(part: str, names: list[str], *, broken: bool) -> Finding:
    """Which of these packages are installed."""
    versions = {name: _version(name) for name in names}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = [name for name, version in versions.items() if version is None]
    if not missing:
        return Finding(part, "ok", found)
    fix = f"{sys.executable} -m pip install {' '.join(missing)}"
    return Finding(part, "broken" if broken else "absent", f"without {', '.join(missing)}", fix)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


doctor = App(
    name="doctor",
    help_epilogue="Exit status: 0 usable, 1 something installed is broken\n\n"
    "Example:\n  featureplane doctor --json",
)


@doctor.default
def tell(*, json: Json = False) -> int:
    """Tell what is installed: backend, libraries, extras, and the fix for each gap."""
    findings = examine()
    usable = all(finding.state != "broken" for finding in findings)
    if json:
        print_json({"usable": usable, "findings": [asdict(finding) for finding in findings]})
    else:
        print_table(_table(findings))
        for finding in findings:
            if finding.fix:
                say(f"to get {finding.part}: {finding.fix}")
    return 0 if usable else 1


def _table(findings: list[Finding]) -> Table:
    table = Table("part", "state", "found", box=None, pad_edge=False)
    colours = {"ok": "green", "absent": "yellow", "broken": "bold red"}
    for finding in findings:
        table.add_row(Text(finding.part), Text(finding.state, colours[finding.state]), Text(finding.found))
    return table
