"""Text that came from outside, made safe to print, and made to fit.

A cache's name, a key's pattern, a command line can hold anything: escape sequences, line breaks, characters that
turn the direction of writing, markup. Every such text passes :func:`printable` before it meets a terminal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.cells import cell_len

_BREAK = re.compile(r" (?!(?:%|±|\+/-|(?:B|[KMGTPE]iB|ns|µs|us|ms|s|min|h|d)(?!\w)))")


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The few signs that are not ASCII, or what stands for them where the encoding has none."""

    ellipsis: str
    dot: str
    bullet: str
    plus_minus: str
    bar: tuple[str, ...]
    """From an eighth of a cell to a full one; a single sign rounds to whole cells."""
    micro: str
    """The unit of a millionth of a second."""


UNICODE = Glyphs("…", " · ", "●", "±", ("▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"), "µs")
ASCII = Glyphs("..", " | ", "*", "+/-", ("#",), "us")


def glyphs_for(encoding: str) -> Glyphs:
    """The signs that *encoding* can express: all of them, or plain ASCII."""
    try:
        "".join(
            (UNICODE.ellipsis, UNICODE.dot, UNICODE.bullet, UNICODE.plus_minus, UNICODE.micro, *UNICODE.bar)
        ).encode(encoding)
    except (UnicodeError, LookupError):
        return ASCII
    return UNICODE


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Escape whatever would not show as itself, as Python would write it.

    That is: control and formatting characters, line breaks, blanks that are not a space, lone surrogates,
    unassigned code points, selectors of a glyph's variant, and what *encoding* can't express.

    >>> print(printable("a\x1b[31m\n\u202eb"))
    a\x1b[31m\n\u202eb
    """
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(char if char.isprintable() and not "\ufe00" <= char <= "\ufe0f" else _escape(char) for char in text)
    try:
        return shown.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return shown.encode("ascii", "backslashreplace").decode("ascii")


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """Take out the middle of *text*, so that it fills at most *width* cells.

    The end of a name (the attribute, the line) tells caches apart as well as its beginning (the package), so
    both are kept, and the end gets the odd cell.

    >>> shorten("shop.users:UserStore.__init__.cache", 20)
    'shop.user…it__.cache'
    """
    if cell_len(text) <= width:
        return text
    room = width - cell_len(ellipsis)
    if room < 2:
        return _head(text, width)
    return _head(text, room // 2) + ellipsis + _tail(text, room - room // 2)


def _head(text: str, width: int) -> str:
    end = used = 0
    for end, char in enumerate(text):
        used += cell_len(char)
        if used > width:
            return text[:end]
    return text


def _tail(text: str, width: int) -> str:
    start, used = len(text), 0
    while start and used + cell_len(text[start - 1]) <= width:
        start -= 1
        used += cell_len(text[start])
    return text[start:]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill *text* up to *width* cells, at its left when it is to stand on the right."""
    blank = " " * max(width - cell_len(text), 0)
    return blank + text if right else text + blank


def wrap(text: str, width: int) -> list[str]:
    """Break *text* into lines of at most *width* cells: at blanks, never before a unit; a longer word is cut.

    >>> wrap("what it cost and what may be wrong", 14)
    ['what it cost', 'and what may', 'be wrong']
    """
    lines: list[str] = []
    line = ""
    for word in _BREAK.split(text):
        if line and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
        while cell_len(line) > width:
            head = _head(line, width) or line[0]  # a wide character never fits one cell
            lines.append(head)
            line = line[len(head) :]
    if line:
        lines.append(line)
    return lines


def wrap_parts(parts: list[str], width: int, glyphs: Glyphs) -> list[str]:
    """Join *parts* with dots into as few lines as they need; no part is broken, a long one is shortened."""
    lines: list[str] = []
    for part in parts:
        fitted = shorten(part, width, glyphs.ellipsis)
        joined = f"{lines[-1]}{glyphs.dot}{fitted}" if lines else fitted
        if lines and cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(fitted)
    return lines


def bar(part: float, width: int, glyphs: Glyphs) -> str:
    """A bar of *width* cells for a share from 0 to 1; whatever is there at all gets the smallest sign.

    >>> bar(0.5, 4, UNICODE), bar(0.001, 4, ASCII), bar(0, 4, UNICODE)
    ('██', '#', '')
    """
    if not part > 0:
        return ""
    steps = len(glyphs.bar)
    filled = max(1, round(min(part, 1.0) * width * steps))
    whole, rest = divmod(filled, steps)
    return glyphs.bar[-1] * whole + (glyphs.bar[rest - 1] if rest else "")
