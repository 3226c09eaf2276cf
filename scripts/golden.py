"""Rewrite every golden file under tests/golden; the diff is reviewed like code.

    .venv/bin/python -m scripts.golden

`golden_texts()`, here of the feature sets, in `golden_kernels` of the kernels, is what the tests compare
with.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from featureplane.features.catalog import registry
from featureplane.features.spec import FeatureSet
from scripts import golden_kernels

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"


def feature_set_text(fset: FeatureSet) -> str:
    """A set's pinned shape: ids, names, types, scales, order, warm-up, fingerprint; one line a feature."""
    rows = [json.dumps(asdict(spec) | {"flags": int(spec.flags)}) for spec in fset.specs]
    head = {
        "feature_set_id": fset.feature_set_id,
        "schema_version": fset.schema_version,
        "fingerprint": fset.fingerprint,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    return "\n".join(
        ["{", *lines, '  "features": [', ",\n".join(f"    {row}" for row in rows), "  ]", "}", ""]
    )


def golden_texts() -> dict[Path, str]:
    """Every pinned feature set and what should stand in its file now."""
    return {
        GOLDEN / "feature_sets" / f"{set_id}.json": feature_set_text(registry.get(set_id))
        for set_id in registry
    }


def main() -> None:
    """Write what differs and say so."""
    for path, text in (golden_texts() | golden_kernels.golden_texts()).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(GOLDEN.parents[1])}")


if __name__ == "__main__":
    main()
