"""Which objects a rule watches.

A pattern is an `s3://` URI in which `*` stands for any characters but `/`, `**` for any at all, and `?` for one that is
not `/`; `/**/` stands for one slash, too. Where its last part has no wildcard, it names an object, or a folder with all
that lies below.

Patterns are people's own, and keys too: both are read in one pass of a set of states, kept as the bits of a number, so
that no pattern takes longer than another. (Navarro and Raffinot, Flexible Pattern Matching in Strings, section 4.2.)
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

WILDCARDS = frozenset("*?")

_PARTIAL_NAMES = ("_SUCCESS",)
_PARTIAL_FOLDERS = ("_temporary",)
_PARTIAL_ENDINGS = (".tmp", ".part", ".crc", "~")


class Pattern:
    """A compiled pattern."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._literal: dict[str, int] = defaultdict(int)
        """Character -> states that it leads one on from."""
        self._one = self._stay = self._stay_but_slash = self._skip = self._skip_folder = 0
        self._end = 0
        for piece in _pieces(text):
            self._add(piece)
        self._accepting = 1 << self._end
        if not WILDCARDS & set(text.rpartition("/")[2]):
            if not text.endswith("/"):
                self._add("/")
            self._add("**")
            self._accepting |= 1 << self._end

    def matches(self, uri: str) -> bool:
        """True where this object is watched."""
        return bool(self._after(uri) & self._accepting)

    def reaches(self, prefix: str) -> bool:
        """True where any URI that begins so could be watched."""
        return bool(self._after(prefix))

    @property
    def beginning(self) -> str:
        """What every URI that it matches begins with: where to list."""
        wild = [place for place, character in enumerate(self.text) if character in WILDCARDS]
        return self.text[: wild[0]] if wild else self.text

    def _add(self, piece: str) -> None:
        state = 1 << self._end
        self._end += 1
        if piece == "**/":
            # A way in, which any text and a slash follow, or nothing: past the way in it is too late for nothing.
            self._skip_folder |= state
            self._skip |= state
            self._add("**")
            self._add("/")
        elif piece == "**":
            self._stay |= state
            self._skip |= state
        elif piece == "*":
            self._stay_but_slash |= state
            self._skip |= state
        elif piece == "?":
            self._one |= state
        else:
            self._literal[piece] |= state

    def _after(self, text: str) -> int:
        """The states after this text; 0 where nothing that begins so matches."""
        states = self._skipped(1)
        for character in text:
            states = self._skipped(self._step(states, character))
            if not states:
                break
        return states

    def _step(self, states: int, character: str) -> int:
        on, stay = self._literal.get(character, 0), self._stay
        if character != "/":
            on |= self._one
            stay |= self._stay_but_slash
        return ((states & on) << 1) | (states & stay)

    def _skipped(self, states: int) -> int:
        """With the states that wildcards for nothing lead to."""
        while True:
            more = states | ((states & self._skip) << 1) | ((states & self._skip_folder) << 3)
            if more == states:
                return states
            states = more


@lru_cache(maxsize=256)
def compiled(text: str) -> Pattern:
    """The pattern of this text."""
    return Pattern(text)


def ignored(uri: str, size: int) -> str:
    """Why an object is no data, in words; empty where it is.

    Args:
        size: in bytes.
    """
    *folders, name = uri.split("/")[3:]
    if not name:
        return "it marks a folder"
    if size == 0:
        return "it is empty"
    if set(_PARTIAL_FOLDERS) & set(folders) or name in _PARTIAL_NAMES:
        return "it is a mark or a part of a job that writes files"
    if name.startswith((".", "_")):
        return "its name begins as hidden and temporary ones do"
    if name.endswith(_PARTIAL_ENDINGS):
        return "its name ends as unfinished and helper files do"
    return ""


def _pieces(text: str) -> list[str]:
    """Single characters, `*`, `**`, `?`, and `**/` where it stands for any number of folders."""
    pieces: list[str] = []
    place = 0
    while place < len(text):
        end = place
        while text[end : end + 1] == "*":
            end += 1
        if end == place:
            pieces.append(text[place])
            place += 1
            continue
        folders = end - place > 1 and text[end : end + 1] == "/" and pieces[-1:] in (["/"], ["**/"])
        pieces.append("**/" if folders else "**" if end - place > 1 else "*")
        place = end + folders
    return pieces
