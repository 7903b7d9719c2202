"""What the scripts share that write pages from the code."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def keep(script: str, text: str) -> int:
    """Write the page of a script; with --check say whether it is true. The exit code.

    Args:
        script: the script's own path; its page lies beside it, under its name.
        text: what the page has to say.
    """
    page = DOCS / f"{Path(script).stem}.md"
    if "--check" not in sys.argv[1:]:
        page.write_text(text, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == text:
        return 0
    print(f"docs/{page.name} is out of date: run python docs/{page.stem}.py", file=sys.stderr)
    return 1
