"""The project's own papers agree with each other."""

from __future__ import annotations

import re
import tomllib

import featureplane
from tests.contract import project

MACHINE_PATH = re.compile(r"(?<![\w.])/(work|root|home/\w+|Users/\w+|tmp/\w+)/")


def test_one_version_everywhere() -> None:
    pyproject = tomllib.loads((project.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    cargo = tomllib.loads((project.ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    versions = {pyproject["project"]["version"], cargo["workspace"]["package"]["version"]}
    assert versions == {featureplane.__version__}


def test_newest_changelog_title_is_the_version() -> None:
    changelog = (project.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (\S+) - (\d{4}-\d\d-\d\d|unreleased)$", changelog, flags=re.MULTILINE)
    assert titles[0][0] == featureplane.__version__


def test_no_path_of_anybodys_machine() -> None:
    found = [
        f"{path.relative_to(project.ROOT)}:{number}: {line.strip()}"
        for path in project.files()
        if path != project.ROOT / "tests" / "contract" / "test_house.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(project.ROOT)}: {target}"
        for page in project.files()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
