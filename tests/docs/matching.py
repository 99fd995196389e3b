"""Whether a command printed what the page shows, where ids, keys and times differ from run to run."""

from __future__ import annotations

import re

LEFT_OUT = "…"
"""In a page: something is not shown, a part of a line or many lines."""

_CALL = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = r"\b0[0-9a-hjkmnp-tv-z]{12}\b"
_KEY = r"\bdk_[A-Za-z0-9_.-]+"
_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z"
_NAMES = re.compile(f"{_CALL}|{_KEY}|{_ID}")
_TOKENS = re.compile(
    rf"(?P<name>{_CALL}|{_KEY}|{_ID})|(?P<time>{_TIME})|(?P<lines>^{LEFT_OUT}[ \t]*\n)|(?P<out>{LEFT_OUT})"
    r"|(?P<space>[ \t]+)|(?P<end>\s*\n)",
    re.MULTILINE,
)


class Names:
    """Which id of this run stands for which id of the page."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}

    def typed(self, command: str) -> str:
        """The command as it is typed in this run."""
        return _NAMES.sub(lambda found: self._ours.get(found[0], found[0]), command)

    def matches(self, shown: str, printed: str) -> bool:
        """Whether ``printed`` is what the page shows. New ids are learnt from it."""
        pattern, new = self._pattern(shown.strip() + "\n")
        found = re.fullmatch(pattern, _squeezed(printed.strip() + "\n"), re.DOTALL)
        if found is None:
            return False
        self._ours.update({name: found[group] for name, group in new.items()})
        return True

    def _pattern(self, shown: str) -> tuple[str, dict[str, str]]:
        parts: list[str] = []
        new: dict[str, str] = {}
        at = 0
        for token in _TOKENS.finditer(shown):
            parts.append(re.escape(shown[at : token.start()]))
            parts.append(self._token(token, new))
            at = token.end()
        return "".join([*parts, re.escape(shown[at:])]), new

    def _token(self, token: re.Match[str], new: dict[str, str]) -> str:
        if token["time"]:
            return _TIME
        if token["lines"]:
            return r"(?:.*?\n)??"
        if token["out"]:
            return r".*?"
        if token["space"]:
            return " "
        if token["end"]:
            return r"\n" * token["end"].count("\n")
        name = token["name"]
        if name in self._ours:
            return re.escape(self._ours[name])
        if name in new:
            return f"(?P={new[name]})"
        new[name] = f"name{len(new)}"
        shape = _KEY if name.startswith("dk_") else _CALL if "-" in name else _ID
        return f"(?P<{new[name]}>{shape})"


def _squeezed(text: str) -> str:
    """Columns are as wide as what stands in them: their widths tell nothing."""
    return re.sub(r"[ \t]+", " ", re.sub(r"[ \t\r]+\n", "\n", text))
