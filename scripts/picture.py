"""Take the README's picture: the demo's page in a real browser.

.venv/bin/python -m scripts.picture
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from featureplane.ops.demo import run_demo
from featureplane.ops.demo_page import demo_page
from tests.browser import page

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "report.png"


def main() -> None:
    """Make the page and photograph its top."""
    with tempfile.TemporaryDirectory() as folder, page() as window:
        path = Path(folder) / "report.html"
        demo_page(run_demo()).write(path)
        window.show(path, width=1280, height=1047, scheme="dark")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_bytes(window.picture())
    print(f"wrote {PICTURE}, {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
