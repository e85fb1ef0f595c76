"""One key, read: a skeleton, text with a hole for each word, and the words.

What is certain to vary is a wildcard by then. Nothing of a key's class is called: text, bytes and tuples are read
through the methods of their base, other objects by their type.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import pathlib
import re
import uuid
from typing import Any, Final

from cachescope.core.key_masks import (
    GROUP,
    HASH_SEAL,
    HOLE,
    IS_SEAL,
    IS_WORD,
    KINDS,
    LONGEST_WORD,
    SLUG_SEAL,
    TOKEN,
    TOKEN_SEAL,
    WORD,
    mask,
    sealed_word,
)
from cachescope.core.key_readings import readings

LONGEST_PATTERN: Final = 120
LONGEST_TEXT: Final = 256  # of a str or bytes key this much is read
_MOST_HOLES: Final = 12  # words in one key that can be told apart; a word beyond them is {word} at once
MOST_ITEMS: Final = 8
_DEEPEST: Final = 4
MOST_ITEMS_IN_ALL: Final = 32

# The four that key_masks seals with are no text either.
ZEROS: Final = bytes.maketrans(b"123456789\x01\x02\x03\x04", b"000000000\0\0\0\0")
_SEALS: Final = re.compile("\x01|[\x02-\x04].?", re.DOTALL)

_BYTES_HEAD: Final = re.compile(rb"(?:[A-Za-z][A-Za-z0-9_.-]{2,}[:|/])*")
_RUN_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=."


class Sketch:
    """Reads one key. ``random`` tells that its shape holds letters that vary, so that caching the shape is no use."""

    __slots__ = ("grouped", "random", "room", "words")

    def __init__(self) -> None:
        self.room = MOST_ITEMS_IN_ALL
        self.words: list[str] = []
        self.random = False
        self.grouped = 0

    def of(self, key: object) -> tuple[str, list[str]]:
        """Return skeleton and words, cut so that the pattern fits."""
        kind = type(key)
        if issubclass(kind, str) and not issubclass(kind, enum.Enum):
            return fit(self.text(key), self.words)
        return fit(self.item(key, 0), self.words)

    def text(self, key: Any) -> str:
        """Skeleton of a str, a subclass's instance included."""
        # Slicing by the base's method copies the head into an exact str whatever the subclass overrides.
        head: str = str.__getitem__(key, slice(0, LONGEST_TEXT))
        if str.__len__(key) <= LONGEST_TEXT:
            return self.shape(_shape(head))
        # What the cut went through is unknown: drop it rather than call half a uuid something else.
        whole = head.rstrip(_RUN_CHARACTERS)
        tail = "{token}" if len(head) - len(whole) > LONGEST_WORD else ""
        return self.shape(_shape(whole)) + tail + "…"

    def shape(self, shape: str) -> str:
        """Skeleton of a digit-collapsed text."""
        masked = mask(shape)
        if masked is not shape and masked != shape and unsealed(masked) != shape:
            self.random = True
        return self.masked(masked)

    def masked(self, masked: str) -> str:
        """Skeleton of a text whose random parts are wildcards already."""
        out = []
        words = self.words
        groups = 0  # that we are in; a token is one field, however many words it seems to hold
        for match in TOKEN.finditer(masked):
            group = match.lastindex
            if group == IS_WORD:
                word = match.group()
                if len(words) - self.grouped >= _MOST_HOLES and not groups:
                    out.append(WORD)
                elif len(word) <= LONGEST_WORD:
                    seal = sealed_word(masked, *match.span())
                    out.append(HOLE if seal is None else f"{GROUP}{HOLE}{seal}")
                    words.append(_printable(word))
                    self.grouped += groups > 0
                else:
                    out.append("{token}" if word.isascii() else "{text}")
            elif group == IS_SEAL:
                groups += 1 if match.group() == GROUP else -1
                out.append(match.group())
            else:
                out.append(KINDS.get(group or 0) or _printable(match.group()))
        return "".join(out)

    def item(self, key: object, depth: int) -> str:
        """Skeleton of anything; text is in quotes."""
        kind = type(key)
        # issubclass on the type, never isinstance: that one asks the object's own __class__
        if issubclass(kind, enum.Enum):
            return _name(kind, qualified=False) + ".{name}"
        if issubclass(kind, str):
            return f"'{self.text(key)}'"
        if issubclass(kind, bytes):
            return self.raw(key)
        if key is None or key is True or key is False:
            return str(key)
        for base, text in _LEAVES:
            if issubclass(kind, base):
                return text
        if issubclass(kind, tuple):
            items = tuple.__getitem__(key, slice(0, MOST_ITEMS + 1))  # type: ignore[call-overload]  # it is one
            return self.items(kind, items, depth)
        if issubclass(kind, list) and _name(kind, qualified=False) == "_HashedSeq":
            head = list.__getitem__(key, slice(0, MOST_ITEMS + 1))  # type: ignore[call-overload]  # it is one
            return self.items(kind, tuple(head), depth)
        if issubclass(kind, frozenset):
            return self.set(key)
        if issubclass(kind, type):
            return _name(key).removeprefix("builtins.")
        return f"<{_name(kind)}>"

    def raw(self, key: Any) -> str:
        """Skeleton of a bytes key: as text where it is text, else its readable prefix."""
        head: bytes = bytes.__getitem__(key, slice(0, LONGEST_TEXT))
        if head.isascii() and head.decode("ascii").isprintable():
            text = head.decode("ascii")
            if bytes.__len__(key) > LONGEST_TEXT:
                return f"b'{self.text(text + 'x')}'"
            return f"b'{self.shape(_shape(text))}'"
        self.random = True
        found = _BYTES_HEAD.match(head)
        prefix = found.group() if found else b""
        return f"b'{self.shape(_shape(prefix.decode('ascii')))}{{bytes}}'"

    def items(self, kind: type, items: tuple[object, ...], depth: int) -> str:
        """Skeleton of a tuple; the class of a subclass is named, those of the caching libraries excepted."""
        name = "" if kind is tuple else _name(kind, qualified=False)
        hashed = name in ("_HashedTuple", "_HashedSeq")
        if hashed:
            name = ""
        if depth >= _DEEPEST or self.room <= 0:
            return f"{name}(…)"
        self.room -= len(items)
        parts = []
        rest = iter(items[:MOST_ITEMS])
        named = False  # behind the mark that stands between positional and keyword arguments
        for item in rest:
            if not named and (is_mark(item) or (hashed and type(item) is object)):
                named = True
            elif named and type(item) is tuple and len(item) == 2 and type(item[0]) is str:
                parts.append(f"{self.text(item[0])}={self.item(item[1], depth + 1)}")  # cachetools: pairs
            elif named and hashed and type(item) is str:
                for value in rest:  # functools: name and value in turn
                    parts.append(f"{self.text(item)}={self.item(value, depth + 1)}")
                    break
            else:
                parts.append(self.item(item, depth + 1))
        if len(items) > MOST_ITEMS:
            parts.append("…")
        comma = "," if len(items) == 1 else ""
        return f"{name}({', '.join(parts)}{comma})"

    def set(self, key: Any) -> str:
        """Skeleton of a frozenset: the kinds in it, since its order is an accident."""
        kinds = set()
        for count, item in enumerate(frozenset.__iter__(key)):
            if count >= 8 * MOST_ITEMS:
                break
            kind = type(item)
            if kind is str or kind is bytes:
                kinds.add("{str}" if kind is str else "{bytes}")
            elif issubclass(kind, (tuple, frozenset)):
                kinds.add(f"<{_name(kind)}>")
            else:
                kinds.add(Sketch().item(item, 0))
        return f"frozenset({'|'.join(sorted(kinds)[:MOST_ITEMS])})"


_LEAVES: Final[tuple[tuple[type, str], ...]] = (
    (int, "{int}"),
    (float, "{float}"),
    (uuid.UUID, "{uuid}"),
    (datetime.datetime, "{datetime}"),  # before date, its base
    (datetime.date, "{date}"),
    (datetime.time, "{time}"),
    (datetime.timedelta, "{timedelta}"),
    (decimal.Decimal, "{decimal}"),
    (complex, "{complex}"),
    (pathlib.PurePath, "{path}"),
    (ipaddress.IPv4Address, "{ip}"),
    (ipaddress.IPv6Address, "{ip}"),
)

_type_name = type.__dict__["__name__"].__get__
_type_qualname = type.__dict__["__qualname__"].__get__
_type_module = type.__dict__["__module__"].__get__


def _name(kind: Any, *, qualified: bool = True) -> str:
    """Name of a class, read past whatever its metaclass overrides."""
    try:
        if not qualified:
            return _printable(_type_name(kind)[:64])
        name: str = _type_qualname(kind)
        module = _type_module(kind)
    except Exception:  # a class whose own namespace lies about __module__
        return "?"
    name = f"{module if type(module) is str else '?'}.{name}"
    return _printable(name[-100:].replace("{", "").replace("}", ""))


def is_mark(item: object) -> bool:
    """Is this cachetools' mark in front of keyword arguments, the class _HashedTuple itself?"""
    return type(item) is type and _type_name(item) == "_HashedTuple"


def _shape(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").translate(ZEROS).decode("utf-8", "surrogatepass")


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def unsealed(text: str) -> str:
    """A masked text or skeleton without its seals."""
    if GROUP in text:
        return _SEALS.sub("", text)
    return text


def fill(skeleton: str, words: list[str] | tuple[str, ...]) -> str:
    """Put the words into the holes."""
    if words:
        parts = skeleton.split(HOLE)
        skeleton = parts[0] + "".join(map(str.__add__, words, parts[1:]))
    skeleton = unsealed(skeleton)
    return skeleton if len(skeleton) <= LONGEST_PATTERN else _cut(skeleton, LONGEST_PATTERN - 1) + "…"


def _cut(text: str, size: int) -> str:
    """Cut text, never through a wildcard."""
    text = text[:size]
    if text[-1:] in (TOKEN_SEAL, HASH_SEAL, SLUG_SEAL):
        text = text[:-1]
    opened = text.rfind("{")
    return text[:opened] if opened > text.rfind("}") and size - opened < 12 else text


def fit(skeleton: str, words: list[str]) -> tuple[str, list[str]]:
    """Cut a sketch so that the words in it, as they are, make no more than the longest pattern."""
    if len(skeleton) - len(words) + sum(map(len, words)) <= LONGEST_PATTERN:
        return skeleton, words
    if GROUP in skeleton:
        # A name so long is taken for the token that it may be, or some tokens would be cut and not be known as such.
        skeleton, words = next(iter(readings(skeleton, words)), (skeleton, words))
        if len(skeleton) - len(words) + sum(map(len, words)) <= LONGEST_PATTERN:
            return skeleton, words
    parts = skeleton.split(HOLE)
    room = LONGEST_PATTERN - 1
    out = _cut(parts[0], room)
    room -= len(out)
    kept: list[str] = []
    for word, part in zip(words, parts[1:], strict=True):
        if len(word) > room or len(out) < len(parts[0]):
            break
        kept.append(word)
        room -= len(word)
        after = _cut(part, room)
        out += HOLE + after
        room -= len(after)
        if len(after) < len(part):
            break
    return out + "…", kept
