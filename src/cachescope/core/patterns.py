"""Key patterns: ``user:123:profile`` and its like become ``user:{int}:profile``.

A key goes through these steps:

1. **shape**: every ASCII digit becomes 0. All that follows sees only the shape, so keys of one shape have one pattern
   by construction; the hot path caches by it. That is why ``2024-13-99`` is a ``{date}`` and ``999.0.0.1`` an ``{ip}``.
2. **sketch**: what is certain to vary becomes a wildcard: ``{int} {float} {version} {date} {datetime} {ip} {mac} {uuid}
   {hash} {token} {email} {path} {query} {text} {slug} {bytes}``. What is left are separators and words. A sketch is the
   *skeleton*, text with a hole (NUL) for each word, and the words.
3. **tree**: one for each skeleton, a level for each hole. A node with too many different words under it becomes
   ``{word}`` and its subtrees are joined.
4. **form**: random text that step 2 took for words makes ever new skeletons. When too many differ only within fields
   such as ``ab_{int}-x``, those fields become ``{token}``.

What steps 3 and 4 come to depends on the set of keys seen and not on their order: a node or form once generalised stays
so, and joining is a union. Merging tables is therefore commutative and associative, while no limit is met.

Nothing of a key's class is called: text, bytes and tuples are read through the methods of their base, other objects by
their type.
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

__all__ = ["OVERFLOW", "KeyPatterns", "pattern_of"]

OVERFLOW: Final = "overflow"

_LIMIT = 512
_LONGEST_PATTERN = 120
_LONGEST_TEXT = 256  # of a str or bytes key this much is read
_LONGEST_WORD = 48
_MOST_HOLES = 12  # words in one key that can be told apart; a word beyond them is {word} at once
_MOST_ITEMS = 8
_DEEPEST = 4
_MOST_ITEMS_IN_ALL = 32
_MOST_SHAPES = 2048  # for each of the four caches of a table
_MOST_CREATED = 64  # times the limit: literal patterns ever made, most of them folded since

# Words at one place before it becomes {word}: in the first place of a key, elsewhere; then skeletons of one form.
# A key's first word is mostly a namespace: a service with 30 of them should read 30 lines. A table that is full goes
# one step down before it lets keys overflow.
_STEPS: Final = ((64, 24, 32), (32, 12, 24), (16, 6, 12), (8, 3, 6))

_HOLE: Final = "\0"  # cannot stand in a skeleton otherwise: control characters are escaped
_WORD: Final = "{word}"  # cannot be a literal word: words hold no braces

_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")

_WILDCARDS: Final = (
    "int|float|version|date|datetime|ip|mac|uuid|hash|token|email|auth|path|query|fragment|text|slug|bytes|word"
)
_LETTER: Final = r"[A-Za-z\x80-\U0010ffff]"

# All expressions below read shapes, so 0 stands for any digit.
_TOKEN: Final = re.compile(
    # words and separators first: most of any key
    rf"(?![vV]0+\.0)({_LETTER}+(?:(?:-{_LETTER}+){{3,}})?)"
    r"|([^A-Za-z0{\x80-\U0010ffff-]+)"
    r"|((?<!0)(?:0{4}-00-00[T ]00:?00(?::?00)?(?:[.,]0+)?(?:Z|[+-]00:?00)?|0{8}T0{4,6}Z?)(?![A-Za-z0]))"
    r"|((?<!0)0{4}(?:-00-00|/00/00)(?!0))"
    r"|((?<![0.])0{1,3}(?:\.0{1,3}){3}(?![.]?0))"
    r"|((?:[vV]0+(?:\.0+)+|(?<![A-Za-z0.])0+(?:\.0+){2,})(?:-?(?:alpha|beta|rc|dev|post|a|b)[.]?0*)?(?![A-Za-z]))"
    r"|((?:(?<![^:=,|(\[ ])-)?(?:0+\.0+(?:[eE][+-]?0+)?(?![.]0)|0+[eE][+-]0+))"
    r"|((?:(?<![^:=,|(\[ /])-)?0+)"
    rf"|(\{{(?:{_WILDCARDS})\}})"
    rf"|({_LETTER}+|.)",
    re.DOTALL,
)
_IS_WORD: Final = 1
_KINDS: Final = {3: "{datetime}", 4: "{date}", 5: "{ip}", 6: "{version}", 7: "{float}", 8: "{int}"}

_UUID: Final = re.compile(r"(?<![A-Za-z0])[0a-fA-F]{8}(?:-[0a-fA-F]{4}){3}-[0a-fA-F]{12}(?![A-Za-z0])")
_EMAIL: Final = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_JWT: Final = re.compile(r"eyJ[A-Za-z0_-]+(?:\.[A-Za-z0_-]+){1,2}")
_BASE64: Final = re.compile(r"(?<![A-Za-z0+/])(?=[a-z0+/]*[A-Z])[A-Za-z0+/]{20,}={1,2}(?![A-Za-z0+/=])")
_COLONS: Final = re.compile(
    r"(?<![A-Za-z0])(?:"
    r"((?:[0a-fA-F]{2}:){5}[0a-fA-F]{2})"
    r"|(?:[0a-fA-F]{1,4}:){7}[0a-fA-F]{1,4}"
    r"|(?:0{4}|0[0a-fA-F]{3}):(?:[0a-fA-F]{1,4}:){1,5}(?::[0a-fA-F]{1,4}){1,5}"
    r"|[fF][cdeCDE][0a-fA-F]{2}:(?:[0a-fA-F]{1,4}:){0,6}(?::[0a-fA-F]{1,4}){1,6}"
    r")(?![A-Za-z0:])"
)
_URL: Final = re.compile(
    r"([A-Za-z][A-Za-z0+.-]{1,15}://)([^\s/?#'\"<>@]*@)?([^\s/?#'\"<>@]*)(/[^\s?#'\"<>]*)?(\?[^\s#'\"<>]*)?(#[^\s'\"<>]*)?"
)
_PATH: Final = re.compile(
    r"(?<![^\s:|'\"<>?#(){}\[\],;=])([^\s/\\:|'\"<>?#(){}\[\],;=]*(?:/+[^\s/\\:|'\"<>?#(){}\[\],;=]+)+/?)(\?[^\s#'\"<>]*)?"
)
_WINDOWS: Final = re.compile(r"(?<![A-Za-z0])([A-Za-z]:\\)([^\s\\:*?\"<>|]+\\)?[^\s:*?\"<>|]+")
_EXTENSION: Final = re.compile(r".\.[A-Za-z][A-Za-z0]{0,4}\Z")
# Only runs with a digit or upper case, or overlong ones, are worth a call.
_RUN: Final = re.compile(r"(?<![A-Za-z0])(?=[a-z_-]*[A-Z0]|[a-z_-]{49})[A-Za-z0_-]{6,}(?:={1,2}(?![\w=]))?")
_HEX: Final = re.compile(r"(?:0[xX])?(?:[0a-f]{8,}|[0A-F]{8,})")
_HEX_WORD: Final = re.compile(r"[A-Fa-f]{4,}0{1,8}")
_PIECE: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|0+")
_WORDY: Final = re.compile(r"[a-z]{3,}|[A-Z][a-z]{2,}|[A-Z]{3,}|0+")
_SLUG: Final = re.compile(r"(?=[a-z0-]*0)(?:[a-z]+|0+)(?:-(?:[a-z]+|0+)){5,}")
_FIELD: Final = re.compile(rf"[_-]*(?:\0|\{{(?:{_WILDCARDS})\}})(?:[_-]*(?:\0|\{{(?:{_WILDCARDS})\}}))*[_-]*")
_ATOMS: Final = frozenset("{%s}" % name for name in _WILDCARDS.split("|"))  # noqa: UP031 - braces
_DASHES: Final = re.compile(r"([_-]+)")
_DIGITS: Final = re.compile(r"0+")
_FOUR_WORDS: Final = re.compile(r"(?:\S*\s+){3}")
_BYTES_HEAD: Final = re.compile(rb"(?:[A-Za-z][A-Za-z0-9_.-]{2,}[:|/])*")
_RUN_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=."


def pattern_of(key: object) -> str:
    """Return the pattern of one key by itself, in which words stay as they are.

    Args:
        key: Any object. None of its own methods is called.

    Returns:
        Printable text of at most 120 characters.
    """
    try:
        skeleton, words = _Sketch().of(key)
        return _fill(skeleton, words)
    except Exception:  # a profiler never fails its host; by design nothing gets here
        return OVERFLOW


class _Sketch:
    """Reads one key. ``random`` tells that its shape holds letters that vary, so that caching the shape is no use."""

    __slots__ = ("random", "room", "words")

    def __init__(self) -> None:
        self.room = _MOST_ITEMS_IN_ALL
        self.words: list[str] = []
        self.random = False

    def of(self, key: object) -> tuple[str, list[str]]:
        """Return skeleton and words, cut so that the pattern fits."""
        kind = type(key)
        if issubclass(kind, str) and not issubclass(kind, enum.Enum):
            return _fit(self.text(key), self.words)
        return _fit(self.item(key, 0), self.words)

    def text(self, key: Any) -> str:
        """Skeleton of a str, a subclass's instance included."""
        # Slicing by the base's method copies the head into an exact str whatever the subclass overrides.
        head: str = str.__getitem__(key, slice(0, _LONGEST_TEXT))
        if str.__len__(key) <= _LONGEST_TEXT:
            return self.shape(_shape(head))
        # What the cut went through is unknown: drop it rather than call half a uuid something else.
        whole = head.rstrip(_RUN_CHARACTERS)
        tail = "{token}" if len(head) - len(whole) > _LONGEST_WORD else ""
        return self.shape(_shape(whole)) + tail + "…"

    def shape(self, shape: str) -> str:
        """Skeleton of a digit-collapsed text."""
        masked = _mask(shape)
        if masked is not shape and masked != shape:
            self.random = True
        return self.masked(masked)

    def masked(self, masked: str) -> str:
        """Skeleton of a text whose random parts are wildcards already."""
        out = []
        words = self.words
        for match in _TOKEN.finditer(masked):
            group = match.lastindex
            if group == _IS_WORD:
                word = match.group()
                if len(words) >= _MOST_HOLES:
                    out.append(_WORD)
                elif len(word) <= _LONGEST_WORD:
                    out.append(_HOLE)
                    words.append(_printable(word))
                else:
                    out.append("{token}" if word.isascii() else "{text}")
            else:
                out.append(_KINDS.get(group or 0) or _printable(match.group()))
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
            items = tuple.__getitem__(key, slice(0, _MOST_ITEMS + 1))  # type: ignore[call-overload]
            return self.items(kind, items, depth)
        if issubclass(kind, list) and _name(kind, qualified=False) == "_HashedSeq":
            head = list.__getitem__(key, slice(0, _MOST_ITEMS + 1))  # type: ignore[call-overload]
            return self.items(kind, tuple(head), depth)
        if issubclass(kind, frozenset):
            return self.set(key)
        if issubclass(kind, type):
            return _name(key).removeprefix("builtins.")
        return f"<{_name(kind)}>"

    def raw(self, key: Any) -> str:
        """Skeleton of a bytes key: as text where it is text, else its readable prefix."""
        head: bytes = bytes.__getitem__(key, slice(0, _LONGEST_TEXT))
        if head.isascii() and head.decode("ascii").isprintable():
            text = head.decode("ascii")
            if bytes.__len__(key) > _LONGEST_TEXT:
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
        rest = iter(items[:_MOST_ITEMS])
        named = False  # behind the mark that stands between positional and keyword arguments
        for item in rest:
            if not named and (_is_mark(item) or (hashed and type(item) is object)):
                named = True
            elif named and type(item) is tuple and len(item) == 2 and type(item[0]) is str:
                parts.append(f"{self.text(item[0])}={self.item(item[1], depth + 1)}")  # cachetools: pairs
            elif named and hashed and type(item) is str:
                for value in rest:  # functools: name and value in turn
                    parts.append(f"{self.text(item)}={self.item(value, depth + 1)}")
                    break
            else:
                parts.append(self.item(item, depth + 1))
        if len(items) > _MOST_ITEMS:
            parts.append("…")
        comma = "," if len(items) == 1 else ""
        return f"{name}({', '.join(parts)}{comma})"

    def set(self, key: Any) -> str:
        """Skeleton of a frozenset: the kinds in it, since its order is an accident."""
        kinds = set()
        for count, item in enumerate(frozenset.__iter__(key)):
            if count >= 8 * _MOST_ITEMS:
                break
            kind = type(item)
            if kind is str or kind is bytes:
                kinds.add("{str}" if kind is str else "{bytes}")
            elif issubclass(kind, (tuple, frozenset)):
                kinds.add(f"<{_name(kind)}>")
            else:
                kinds.add(_Sketch().item(item, 0))
        return f"frozenset({'|'.join(sorted(kinds)[:_MOST_ITEMS])})"


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


def _is_mark(item: object) -> bool:
    """Is this cachetools' mark in front of keyword arguments, the class _HashedTuple itself?"""
    return type(item) is type and _type_name(item) == "_HashedTuple"


def _shape(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").translate(_ZEROS).decode("utf-8", "surrogatepass")


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _mask(shape: str) -> str:
    """Put wildcards for what holds random letters. Each test in front of an expression is there for time only."""
    if shape.count(" ") >= 4:
        head = _FOUR_WORDS.match(shape)
        if head:
            shape = head.group() + "{text}"
    if "=" in shape:
        shape = _BASE64.sub("{token}", shape)
    if "/" in shape:
        shape = _URL.sub(_mask_url, shape) if "://" in shape else _PATH.sub(_mask_path, shape)
    if ":\\" in shape:
        shape = _WINDOWS.sub(r"\1\2{path}", shape)
    if "@" in shape:
        shape = _EMAIL.sub("{email}", shape)
    if "eyJ" in shape:
        shape = _JWT.sub("{token}", shape)
    if "::" in shape or shape.count(":") >= 5:
        shape = _COLONS.sub(lambda match: "{mac}" if match.group(1) else "{ip}", shape)
    if shape.count("-") >= 4:
        shape = _UUID.sub("{uuid}", shape)
    return _RUN.sub(_mask_run, shape)


def _mask_url(match: re.Match[str]) -> str:
    scheme, auth, host, path, query, fragment = match.groups()
    return (
        scheme
        + ("{auth}@" if auth else "")  # may hold a password
        + host
        + (_segments(path) if path else "")
        + ("?{query}" if query else "")
        + ("#{fragment}" if fragment else "")
    )


def _mask_path(match: re.Match[str]) -> str:
    path, query = match.groups()
    return _segments(path) + ("?{query}" if query else "")


def _segments(path: str) -> str:
    """Keep a route such as /users/5/orders, shorten a file's path to two directories and a very deep one to three."""
    parts = path.split("/")
    lead = 1 if not parts[0] else 0
    count = len(parts) - lead - (1 if not parts[-1] else 0)
    if count >= 3 and _EXTENSION.search(parts[-1]):
        return "/".join(parts[: lead + 2]) + "/{path}"
    if count > 6:
        return "/".join(parts[: lead + 3]) + "/{path}"
    return path


def _mask_run(match: re.Match[str]) -> str:
    """Judge a run of letters, digits, ``-`` and ``_``: words, or something that a machine made up."""
    run = match.group()
    if "0" not in run and len(run) <= _LONGEST_WORD and (run.islower() or run.isupper()):
        return run
    body = run.rstrip("=")
    if "-" not in body and "_" not in body:
        return _judge(body) or run
    if _SLUG.fullmatch(body):
        return "{slug}"
    parts = _DASHES.split(body)
    if len(body) >= 16 and 2 * sum(len(part) for part in parts[::2] if _is_ugly(part)) >= len(body):
        return "{token}"
    judged = [_judge(part) or part for part in parts]
    if "{token}" in judged:
        judged = _absorb(judged)
    return "".join(judged)


def _absorb(parts: list[str]) -> list[str]:
    """Join a token with fragments beside it that are no words: base64url has ``-`` and ``_`` among its letters."""
    out = [parts[0]]
    for place in range(1, len(parts), 2):
        dash, part = parts[place], parts[place + 1]
        before = out[-1]
        if before == "{token}" and not _WORDY.fullmatch(part) and part[0] != "{":
            continue
        prefix = len(out) == 1 and before.islower()  # u_4fK29dLmQ0xZ: whatever the token, u is a name
        if part == "{token}" and (before == part or (before[0] != "{" and not prefix and not _WORDY.fullmatch(before))):
            out[-1] = part
            continue
        out += (dash, part)
    return out


def _judge(part: str) -> str | None:
    """Return the wildcard for one alphanumeric run, or None if it is words and numbers."""
    size = len(part)
    if size < 6:
        return None
    if part.isalpha():
        if size > _LONGEST_WORD:
            return "{token}"
        return "{token}" if size >= 20 and _is_ugly(part) else None
    if part.isdigit():
        return "{hash}" if size in (32, 40, 64) else None  # a number of just that length is the rarer thing
    if _HEX.fullmatch(part):
        # decade2020 is a word and a number; so is one short hash in two hundred, which then reads {word}{int}
        return None if _HEX_WORD.fullmatch(part) and size <= 12 else "{hash}"
    numbers = len(_DIGITS.findall(part))
    changes = 2 * numbers - (part[0] == "0") - (part[-1] == "0")
    if changes >= 3:
        return None if "T" in part and _TOKEN.fullmatch(part) else "{token}"
    if size > _LONGEST_WORD or (size >= 20 and changes == 2):
        return "{token}"
    return "{token}" if size >= 16 and _is_ugly(part) else None


def _is_ugly(part: str) -> bool:
    """Does upper and lower case change too often for CamelCase?"""
    if part.islower() or part.isupper() or part.istitle() or part.isdigit():
        return False
    return len(_PIECE.findall(part)) * 3.4 >= len(part)


def _fill(skeleton: str, words: list[str] | tuple[str, ...]) -> str:
    """Put the words into the holes."""
    if words:
        parts = skeleton.split(_HOLE)
        skeleton = parts[0] + "".join(map(str.__add__, words, parts[1:]))
    return skeleton if len(skeleton) <= _LONGEST_PATTERN else _cut(skeleton, _LONGEST_PATTERN - 1) + "…"


def _cut(text: str, size: int) -> str:
    """Cut text, never through a wildcard."""
    text = text[:size]
    opened = text.rfind("{")
    return text[:opened] if opened > text.rfind("}") and size - opened < 12 else text


def _fit(skeleton: str, words: list[str]) -> tuple[str, list[str]]:
    """Cut a sketch so that the words in it, as they are, make no more than the longest pattern."""
    if len(skeleton) - len(words) + sum(map(len, words)) <= _LONGEST_PATTERN:
        return skeleton, words
    parts = skeleton.split(_HOLE)
    room = _LONGEST_PATTERN - 1
    out = _cut(parts[0], room)
    room -= len(out)
    kept: list[str] = []
    for word, part in zip(words, parts[1:], strict=True):
        if len(word) > room or len(out) < len(parts[0]):
            break
        kept.append(word)
        room -= len(word)
        after = _cut(part, room)
        out += _HOLE + after
        room -= len(after)
        if len(after) < len(part):
            break
    return out + "…", kept


class KeyPatterns:
    """The patterns of one cache's keys, learned as they come, in bounded memory.

    A pattern is an int id. Its text never changes; when words at one place turn out to be many, the ids of the literal
    patterns are folded into the wildcard's: ``resolve`` tells where to, and ``generalisations`` rises. Id 0 is
    ``overflow``.

    Memory: at most *limit* patterns live; at most 64 times as many literal ones are ever made (two list slots each once
    folded); four caches of 2,048 shapes of at most 256 characters. Measured: 0.2 MB after 100,000 distinct words,
    1.0 MB after 10,000 tuples of six words, 2.5 MB after 5,000 keys of 250 random characters (by then full).

    Time (CPython 3.11): 0.15 us for a text of known shape, 0.5 us for a tuple of two, 2 to 5 us for what holds a uuid,
    a hash, a token or a new word, 13 to 27 us for the first of a shape.

    What it gets wrong: a short hash without letters is an {int}, one without digits a word. Once the fields of one form
    were random, all keys of that form have {token} there, readable ones too. Two ids may share a text that was cut.

    What depends on the order of arrival: the ids; and once *limit* is met, which keys overflow or are folded early.

    Not thread-safe: one thread at a time.

    Args:
        limit: Most patterns kept apart. When it is met, places with fewer words become ``{word}`` too; after that keys
            of new patterns count as overflow.

    Attributes:
        generalisations: How often patterns were folded; when it has risen, ids held elsewhere are to be resolved again.

    Raises:
        ValueError: *limit* is not positive.
    """

    __slots__ = (
        "_bytes",
        "_coarse",
        "_created",
        "_forms",
        "_int",
        "_live",
        "_masks",
        "_parents",
        "_shapes",
        "_step",
        "_texts",
        "_trees",
        "_tuples",
        "generalisations",
        "limit",
    )

    def __init__(self, limit: int = _LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"limit of patterns is {limit}, expected at least 1")
        self.limit = limit
        self.generalisations = 0
        self._step = 0
        self._live = 0
        self._created = 0
        self._parents = [0]  # union-find; a root is its own parent
        self._texts = [OVERFLOW]  # of roots
        # skeleton -> nested dicts, one level a hole, down to the id
        self._trees: dict[str, Any] = {}
        self._forms: dict[str, set[str]] = {}  # form -> its skeletons, if they differ from it
        self._coarse: set[str] = set()  # forms that stand for all their skeletons
        self._int = 0
        self._shapes: dict[bytes, int] = {}
        self._bytes: dict[bytes, int] = {}  # apart from str: the same bytes are two keys
        self._masks: dict[str | tuple[object, ...], int] = {}
        self._tuples: dict[tuple[object, ...], int] = {}

    def __len__(self) -> int:
        """How many patterns live, overflow not counted."""
        return self._live

    def id_of(self, key: object) -> int:
        """Return the id of the key's pattern, learning it if it is new.

        Args:
            key: Any object. None of its own methods is called.

        Returns:
            An id, resolved at this moment; 0 for overflow.
        """
        kind = type(key)
        try:
            if kind is str:
                if len(key) <= _LONGEST_TEXT:  # type: ignore[arg-type]
                    # Twice as fast as str.translate, five times if that has gaps in its table.
                    shape = key.encode().translate(_ZEROS)  # type: ignore[attr-defined]
                    found = self._shapes.get(shape)
                    return self._learn_shape(shape) if found is None else found
            elif kind is int:
                return self._int or self._learn_int()
            elif kind is tuple:
                return self._of_tuple(key)  # type: ignore[arg-type]
            elif kind is bytes and len(key) <= _LONGEST_TEXT:  # type: ignore[arg-type]
                found = self._bytes.get(key.translate(_ZEROS))  # type: ignore[attr-defined]
                if found is not None:
                    return found
        except UnicodeEncodeError:  # a lone surrogate
            pass
        except Exception:  # by design nothing gets here; a profiler never fails its host
            return 0
        try:
            return self._learn(key)
        except Exception:
            return 0

    def resolve(self, pattern_id: int) -> int:
        """Return the id that a pattern's figures belong to now.

        Raises:
            IndexError: No such id was given out.
        """
        if pattern_id < 0:
            raise IndexError(f"pattern id {pattern_id}: this table gave out ids 0 to {len(self._parents) - 1}")
        parents = self._parents
        root = pattern_id
        while parents[root] != root:
            root = parents[root]
        while parents[pattern_id] != root:
            parents[pattern_id], pattern_id = root, parents[pattern_id]
        return root

    def text(self, pattern_id: int) -> str:
        """Return the text of the pattern that *pattern_id* resolves to."""
        return self._texts[self.resolve(pattern_id)]

    def merge(self, other: KeyPatterns) -> dict[int, int]:
        """Learn another table's patterns.

        Args:
            other: A table of another process or part; it is left as it is.

        Returns:
            For each id of *other*, folded ones included, the id here.
        """
        if other is self:
            return {i: self.resolve(i) for i in range(len(self._parents))}
        if other._step > self._step:
            self._tighten(other._step)
        for form in sorted(other._coarse - self._coarse):
            self._coarsen(form)
        roots = {0: 0}
        leaves = [(leaf, skeleton, path) for skeleton, tree in other._trees.items() for path, leaf in _leaves(tree)]
        for leaf, skeleton, path in sorted(leaves):
            roots[leaf] = self._place(skeleton, list(path))
        return {i: self.resolve(roots[other.resolve(i)]) for i in range(len(other._parents))}

    def to_dict(self) -> dict[str, object]:
        """Return the table as JSON-able data; ids stay what they are."""
        return {
            "version": 1,
            "limit": self.limit,
            "step": self._step,
            "created": self._created,
            "generalisations": self.generalisations,
            "coarse": sorted(self._coarse),
            "ids": [self.resolve(i) for i in range(len(self._parents))],
            "patterns": [
                [leaf, skeleton, list(path)] for skeleton, tree in self._trees.items() for path, leaf in _leaves(tree)
            ],
        }

    @classmethod
    def from_dict(cls, data: object) -> KeyPatterns:
        """Return the table that ``to_dict`` described.

        Raises:
            ValueError: *data* is nothing that ``to_dict`` returns.
        """
        if not isinstance(data, dict) or data.get("version") != 1:
            raise ValueError(f"key patterns: expected a dict of version 1, got {_brief(data)}")
        table = cls(_number(data, "limit", 1, 1_000_000))
        table._step = _number(data, "step", 0, len(_STEPS) - 1)
        table._created = _number(data, "created", 0, 1 << 40)
        table.generalisations = _number(data, "generalisations", 0, 1 << 40)
        ids, patterns, coarse = data.get("ids"), data.get("patterns"), data.get("coarse")
        if not isinstance(coarse, list) or not all(type(form) is str for form in coarse):
            raise ValueError(f"key patterns: 'coarse' should list texts, got {_brief(coarse)}")
        table._coarse = set(coarse)
        if not isinstance(ids, list) or not ids or not all(type(i) is int and 0 <= i < len(ids) for i in ids):
            raise ValueError(f"key patterns: 'ids' should list ids below its length, got {_brief(ids)}")
        if ids[0] != 0 or any(ids[i] != i for i in ids):
            raise ValueError("key patterns: 'ids' should list resolved ids, 0 (overflow) first")
        if not isinstance(patterns, list) or len(patterns) > table.limit:
            raise ValueError(f"key patterns: 'patterns' should list at most {table.limit}, got {_brief(patterns)}")
        table._parents = list(ids)
        table._texts = [""] * len(ids)
        table._texts[0] = OVERFLOW
        seen = {0}
        for row in patterns:
            leaf, skeleton, path = _row(row)
            if not 0 < leaf < len(ids) or ids[leaf] != leaf or leaf in seen:
                raise ValueError(f"key patterns: id {leaf} of {_brief(row)} is unknown, folded, or there twice")
            seen.add(leaf)
            table._texts[leaf] = _fill(skeleton, path)
            if not _grow(table._trees, skeleton, path, leaf):
                raise ValueError(f"key patterns: {_brief(row)} contradicts a pattern before it")
            form = _form(skeleton, path)[0]
            if form != skeleton:
                if form in table._coarse:
                    raise ValueError(f"key patterns: {_brief(row)} contradicts the coarse form {_brief(form)}")
                table._forms.setdefault(form, set()).add(skeleton)
        if seen != set(ids):
            raise ValueError("key patterns: 'ids' names patterns that are not there")
        table._live = len(patterns)
        for skeleton in table._trees:
            table._settle(skeleton)
        return table

    def _of_tuple(self, key: tuple[object, ...]) -> int:
        shape = _tuple_shape(key, 0)
        if shape is None:
            return self._learn(key)
        found = self._tuples.get(shape)
        if found is not None:
            return found
        masked = _tuple_mask(shape)
        found = self._masks.get(masked)
        return self._learn(key, shape, masked) if found is None else found

    def _learn_int(self) -> int:
        self._int = found = self._place("{int}", [])
        return found

    def _learn_shape(self, shape: bytes) -> int:
        text = shape.decode()
        masked = _mask(text)
        random = masked != text
        if random:
            found = self._masks.get(masked)
            if found is not None:
                return found
        sketch = _Sketch()
        found = self._place(*_fit(sketch.masked(masked), sketch.words))
        if random:
            _remember(self._masks, masked, found)
        else:
            _remember(self._shapes, shape, found)
        return found

    def _learn(
        self, key: object, shape: tuple[object, ...] | None = None, masked: tuple[object, ...] | None = None
    ) -> int:
        sketch = _Sketch()
        found = self._place(*sketch.of(key))
        if shape is not None:
            # Two dicts, for bytes and str may not meet as keys: they hash alike, and -bb forbids comparing them.
            if sketch.random:
                _remember(self._masks, masked, found)
            else:
                _remember(self._tuples, shape, found)
        elif type(key) is bytes and len(key) <= _LONGEST_TEXT and not sketch.random:
            _remember(self._bytes, key.translate(_ZEROS), found)
        return found

    def _place(self, skeleton: str, words: list[str]) -> int:
        """Walk down a tree, making what is missing. {word} among *words* comes from a merge and collapses the place."""
        form = skeleton
        while True:
            path = list(words)
            node: Any = self._trees.get(skeleton)
            if node is None:
                form, kept = _form(skeleton, words)
                if form in self._coarse and form != skeleton:
                    return self._place(form, kept)
                room = self._live < self.limit
            else:
                room = True
                for depth, word in enumerate(words):
                    if word == _WORD and _WORD not in node:
                        self._settle(skeleton, node)
                        return self._place(skeleton, words)
                    if _WORD in node:
                        path[depth] = _WORD
                    below = node.get(path[depth])
                    if below is None:
                        # a last place that is about to collapse gives room rather than takes it
                        full = depth == len(words) - 1 and len(node) >= self._most(skeleton, depth)
                        room = full or self._live < self.limit
                        node = None
                        break
                    node = below
                if node is not None:
                    return node  # type: ignore[no-any-return]
            if room:
                break
            if not self._tighten(self._step + 1):
                return 0
        if self._created >= _MOST_CREATED * self.limit:
            return 0
        self._created += 1
        self._live += 1
        found = self._new(_fill(skeleton, path))
        _grow(self._trees, skeleton, path, found)
        if node is None and form != skeleton:
            self._forms.setdefault(form, set()).add(skeleton)
            if len(self._forms[form]) > _STEPS[self._step][2]:
                self._coarsen(form)
                return self.resolve(found)
        self._settle(skeleton)
        return self.resolve(found)

    def _new(self, text: str) -> int:
        self._parents.append(len(self._parents))
        self._texts.append(text)
        return len(self._parents) - 1

    def _most(self, skeleton: str, depth: int) -> int:
        first, other, _ = _STEPS[self._step]
        return first if depth == 0 and skeleton != _HOLE and skeleton.lstrip("b('")[:1] == _HOLE else other

    def _settle(self, skeleton: str, forced: Any = None) -> None:
        """Collapse each place of one tree that has too many words, and *forced*; fold the ids."""
        tree = self._trees[skeleton]
        if not self._collapse(skeleton, tree, 0, forced):
            return
        self._folded()
        for path, leaf in list(_leaves(tree)):
            text = _fill(skeleton, path)
            if self._texts[leaf] != text:
                self._parents[leaf] = found = self._new(text)
                self._texts[leaf] = ""
                node = tree
                for word in path[:-1]:
                    node = node[word]
                node[path[-1]] = found

    def _folded(self) -> None:
        self.generalisations += 1
        # Whatever a cache answers is to be a resolved id.
        self._shapes.clear()
        self._bytes.clear()
        self._masks.clear()
        self._tuples.clear()
        self._int = 0

    def _coarsen(self, form: str) -> None:
        """Fold all skeletons of one form into it."""
        self._coarse.add(form)
        trees = {skeleton: self._trees.pop(skeleton) for skeleton in sorted(self._forms.pop(form, ()))}
        leaves = [(skeleton, path, leaf) for skeleton, tree in trees.items() for path, leaf in _leaves(tree)]
        self._live -= len(leaves)
        for skeleton, path, leaf in leaves:
            self._parents[leaf] = self._place(*_form(skeleton, list(path)))
            self._texts[leaf] = ""
        self._folded()

    def _collapse(self, skeleton: str, node: Any, depth: int, forced: Any) -> bool:
        if type(node) is int:
            return False
        collapsed = False
        if _WORD not in node and (node is forced or len(node) > self._most(skeleton, depth)):
            children = list(node.values())
            node.clear()
            node[_WORD] = children[0]
            for child in children[1:]:
                node[_WORD] = self._join(node[_WORD], child)
            collapsed = True
        for child in node.values():
            collapsed |= self._collapse(skeleton, child, depth + 1, forced)
        return collapsed

    def _join(self, left: Any, right: Any) -> Any:
        """Union of two subtrees; ids in one place become one."""
        if type(left) is int:
            self._parents[right] = left
            self._texts[right] = ""
            self._live -= 1
            return left
        for word, child in right.items():
            left[word] = self._join(left[word], child) if word in left else child
        if _WORD in left and len(left) > 1:
            joined = left.pop(_WORD)
            for child in left.values():
                joined = self._join(joined, child)
            left.clear()
            left[_WORD] = joined
        return left

    def _tighten(self, step: int) -> bool:
        """Be content with fewer words at a place from now on."""
        if step >= len(_STEPS):
            return False
        self._step = step
        for form in [form for form, skeletons in self._forms.items() if len(skeletons) > _STEPS[step][2]]:
            self._coarsen(form)
        for skeleton in self._trees:
            self._settle(skeleton)
        return True


def _tuple_shape(key: tuple[object, ...], depth: int) -> tuple[object, ...] | None:
    """Shape of a tuple of plain leaves, None for others: then nothing is cached.

    Holds types and constants of ours, never the user's classes or objects; nor are those compared or hashed.
    """
    if len(key) > _MOST_ITEMS:
        return None
    out: list[object] = []
    for item in key:
        kind = type(item)
        if kind is str:
            if len(item) > 64:  # type: ignore[arg-type]
                return None
            out.append(item.encode().translate(_ZEROS))  # type: ignore[attr-defined]
        elif kind is int or kind is float:
            out.append(kind)
        elif item is None or kind is bool:
            out.append(item)
        elif kind is tuple and depth < 1:  # deeper ones are rare, and eight by eight by eight items are many
            below = _tuple_shape(item, depth + 1)  # type: ignore[arg-type]
            if below is None:
                return None
            out.append(below)
        elif kind is type and _is_mark(item):
            out.append(Ellipsis)
        else:
            return None
    return tuple(out)


def _tuple_mask(shape: tuple[object, ...]) -> tuple[object, ...]:
    """Mask a tuple's texts: they become str, which tells the result from a shape."""
    return tuple([_mask(x.decode()) if type(x) is bytes else _tuple_mask(x) if type(x) is tuple else x for x in shape])


def _remember(cache: dict[Any, int], shape: Any, found: int) -> None:
    if len(cache) >= _MOST_SHAPES:
        cache.clear()  # shapes in use come back at some 10 us each, once in 2,048 new ones
    cache[shape] = found


def _leaves(node: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], int]]:
    """Paths and ids below a node."""
    if type(node) is int:
        return [(path, node)]
    return [leaf for word, child in node.items() for leaf in _leaves(child, (*path, word))]


def _grow(trees: dict[str, Any], skeleton: str, path: list[str], leaf: int) -> bool:
    """Put an id at the end of its path. False if something is there, or a {word} would stand beside words."""
    *nodes, last = [skeleton, *path]
    node: Any = trees
    for depth, word in enumerate([*nodes, last]):
        if type(node) is not dict or (depth and node and word not in node and (word == _WORD or _WORD in node)):
            return False
        if depth < len(nodes):
            node = node.setdefault(word, {})
    if last in node:
        return False
    node[last] = leaf
    return True


def _form(skeleton: str, words: list[str]) -> tuple[str, list[str]]:
    """Return a skeleton with its fields of several parts as {token}, and the words left."""
    out = []
    kept = []
    start = place = 0
    for match in _FIELD.finditer(skeleton):
        field = match.group()
        out.append(skeleton[start : match.start()])
        start = match.end()
        if field == _HOLE:
            kept.append(words[place])
            out.append(field)
        elif field in _ATOMS:
            out.append(field)
        else:
            out.append("{token}")
        place += field.count(_HOLE)
    out.append(skeleton[start:])
    return "".join(out), kept


def _brief(data: object) -> str:
    text = ascii(data)
    return text if len(text) <= 60 else text[:60] + "..."


def _number(data: dict[Any, Any], name: str, least: int, most: int) -> int:
    value = data.get(name)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"key patterns: {name!r} should be an int from {least} to {most}, got {_brief(value)}")
    return value


def _row(row: object) -> tuple[int, str, list[str]]:
    """Check one row of to_dict's patterns."""
    if isinstance(row, list) and len(row) == 3:
        leaf, skeleton, path = row
        if (
            type(leaf) is int
            and type(skeleton) is str
            and len(skeleton) <= _LONGEST_PATTERN
            and skeleton.replace(_HOLE, "").isprintable()
            and isinstance(path, list)
            and len(path) == skeleton.count(_HOLE)
            and all(type(word) is str and len(word) <= _LONGEST_PATTERN and word.isprintable() for word in path)
        ):
            return leaf, skeleton, path
    raise ValueError(f"key patterns: expected [id, skeleton, words], a printable word for each hole, got {_brief(row)}")
