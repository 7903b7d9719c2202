"""The scripts that write pages of the docs, as tests look into them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"


def script(name: str) -> dict[str, Any]:
    """What a script defines, run but for its last lines. It finds its neighbours, as when it is started."""
    sys.path.insert(0, str(DOCS))
    try:
        return runpy.run_path(str(DOCS / f"{name}.py"))
    finally:
        sys.path.remove(str(DOCS))
