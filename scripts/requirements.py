"""Print what pyproject.toml asks for: the core, then each extra named.

So that a machine without Rust can install everything but the extension.
"""

import sys
import tomllib
from pathlib import Path

pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
extras = {"build": pyproject["build-system"]["requires"], **pyproject["project"]["optional-dependencies"]}
print("\n".join(pyproject["project"]["dependencies"]))
for extra in sys.argv[1:]:
    print("\n".join(extras[extra]))
