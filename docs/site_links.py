"""A hook of the docs site: pages of the repository's root are part of it, and links that leave docs/ lead somewhere.

In the repository a link is the path of a file. On the site it is another page, where there is one, else the file at the
repository's address, where that is known (`SPOTUNE_REPOSITORY_URL`), else its name alone. A link to nothing is a
warning, which fails the strict build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
FROM_ROOT = {
    name: f"project/{name.lower()}" for name in ("CHANGELOG.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md")
}
"""Files of the root, and where they lie on the site."""
LINK = re.compile(r"(?P<image>!?)\[(?P<words>[^\]]*)\]\((?P<path>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"^(?:```.*?^```|    .*?$)", re.MULTILINE | re.DOTALL)
_log = logging.getLogger("mkdocs.hooks.site_links")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages."""
    for name, place in FROM_ROOT.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, place, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point its links at the site, or at the repository."""
    place = page.file.src_uri
    source = next((name for name, there in FROM_ROOT.items() if there == place), f"docs/{place}")

    def replaced(link: re.Match[str]) -> str:
        if not link["path"] or "://" in link["path"] or link["path"].startswith("mailto:"):
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        there = FROM_ROOT.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
        if there and files.get_file_from_path(there):
            path = posixpath.relpath(there, posixpath.dirname(place) or ".")
            return f"{link['image']}[{link['words']}]({path}{link['anchor'] or ''})"
        if not (ROOT / target).exists():
            _log.warning("%s links to %s, which is not there", source, link["path"])
        if not config.repo_url:
            return link["words"]
        return f"[{link['words']}]({config.repo_url}/blob/main/{target})"

    return _outside_code(markdown, replaced)


def _outside_code(markdown: str, replaced: Callable[[re.Match[str]], str]) -> str:
    """The text with its links replaced, but for blocks of code."""
    parts, end = [], 0
    for block in FENCE.finditer(markdown):
        parts += [LINK.sub(replaced, markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, LINK.sub(replaced, markdown[end:])])
