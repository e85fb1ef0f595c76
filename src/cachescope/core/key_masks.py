"""Wildcards for the parts of a key that a machine made up: uuids, hashes, tokens, addresses, paths, text.

Everything here reads shapes, texts in which 0 stands for any digit. :func:`mask` is the first half of a sketch; what it
of which some are words.

One in some thousand hashes has digits only, one in some hundred tokens reads like words. Alone nobody can tell; beside
others of its kind anybody can. So what could be one is *sealed*, ``GROUP text SEAL length``: it reads as the text it is
until :mod:`~cachescope.core.pattern_trees` meets a certain one of that length in the same place. Those carry the seal too.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST_WORD: Final = 48
HOLE: Final = "\0"  # cannot stand in a skeleton otherwise: control characters are escaped
WORD: Final = "{word}"  # cannot be a literal word: words hold no braces

WILDCARDS: Final = (
    "int|float|version|date|datetime|ip|mac|uuid|hash|token|email|auth|path|query|fragment|text|slug|locale|bytes|word"
)
_LETTER: Final = r"[A-Za-z\x80-\U0010ffff]"

TOKEN: Final = re.compile(
    # words and separators first: most of any key
    rf"(?![vV]0+\.0)({_LETTER}+(?:(?:-{_LETTER}+){{3,}})?)"
    r"|([^A-Za-z0{\x01-\x04\x80-\U0010ffff-]+)"
    r"|((?<!0)(?:0{4}-00-00[T ]00:?00(?::?00)?(?:[.,]0+)?(?:Z|[+-]00:?00)?|0{8}T0{4,6}Z?)(?![A-Za-z0]))"
    r"|((?<!0)0{4}(?:-00-00|/00/00)(?!0))"
    r"|((?<![0.])0{1,3}(?:\.0{1,3}){3}(?![.]?0))"
    r"|((?:[vV]0+(?:\.0+)+|(?<![A-Za-z0.])0+(?:\.0+){2,})(?:-?(?:alpha|beta|rc|dev|post|a|b)[.]?0*)?(?![A-Za-z]))"
    r"|((?:(?<![^:=,|(\[ ])-)?(?:0+\.0+(?:[eE][+-]?0+)?(?![.]0)|0+[eE][+-]0+))"
    r"|((?:(?<![^:=,|(\[ /])-)?0+)"
    rf"|(\{{(?:{WILDCARDS})\}})"
    r"|(\x01|[\x02-\x04].)"
    rf"|({_LETTER}+|.)",
    re.DOTALL,
)
IS_WORD: Final = 1
IS_SEAL: Final = 10
GROUP: Final = "\x01"  # these four never come from a key: shapes have NUL for them
TOKEN_SEAL: Final = "\x02"
HASH_SEAL: Final = "\x03"
SLUG_SEAL: Final = "\x04"
ANY_LENGTH: Final = "\ue000"  # behind a seal stands one character, this one plus the length
_SEALED_LENGTHS: Final = frozenset((7, 8, 12, 16, 24))  # of hashes that may have digits or letters only; 32 never do
KINDS: Final = {3: "{datetime}", 4: "{date}", 5: "{ip}", 6: "{version}", 7: "{float}", 8: "{int}"}

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
_HEX_RUN: Final = re.compile(r"[0a-f]+|[0A-F]+")
_SLUGGY: Final = re.compile(r"[a-z]+(?:-(?:[a-z]+|0+)){2,}")
_SLUG_OR_LOCALE: Final = re.compile(
    r"(?<![A-Za-z0_}\x01-])([a-z]+(?:-[a-z]+)+)(?![A-Za-z0_\x02-\x04{-])"
    r"|(?<![A-Za-z0-])[a-z]{2}-[A-Z]{2}(?![A-Za-z0-])|(?<![A-Za-z0_])[a-z]{2}_[A-Z]{2}(?![A-Za-z0_])"
)
_NO_NEIGHBOURS: Final = f"0-{GROUP}{TOKEN_SEAL}{HASH_SEAL}{SLUG_SEAL}"  # of such a word: it is part of something then
_HEX_WORD: Final = re.compile(r"[A-Fa-f]{4,}0{1,8}")
_PIECE: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|0+")
_WORDY: Final = re.compile(r"[a-z]{3,}|[A-Z][a-z]{2,}|[A-Z]{3,}|0+")
_SLUG: Final = re.compile(r"(?=[a-z0-]*0)(?:[a-z]+|0+)(?:-(?:[a-z]+|0+)){5,}")
_LOWER_WORD: Final = re.compile(r"[a-z]{3,}")
_DASHES: Final = re.compile(r"([_-]+)")
_DIGITS: Final = re.compile(r"0+")
_FOUR_WORDS: Final = re.compile(r"(?:\S*\s+){3}")


def mask(shape: str) -> str:
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
    shape = _RUN.sub(_mask_run, shape)
    return _SLUG_OR_LOCALE.sub(_seal_slug, shape) if "-" in shape or "_" in shape else shape


def _seal_slug(match: re.Match[str]) -> str:
    slug = match.group(1)
    if slug is None:
        return "{locale}"
    return _group("{slug}" if len(slug) > LONGEST_WORD else slug, SLUG_SEAL, 0)


def sealed_word(text: str, start: int, end: int) -> str | None:
    """The seal for a word of *text* that may be a hash without digits, as deadbeef; None for others."""
    size = end - start
    if size not in _SEALED_LENGTHS or not _HEX_RUN.fullmatch(text, start, end):
        return None
    beside = text[start - 1 : start] + text[end : end + 1] if start else text[end : end + 1]
    return None if beside.strip(_NO_NEIGHBOURS) != beside else f"{HASH_SEAL}{chr(ord(ANY_LENGTH) + size)}"


def _group(text: str, seal: str, length: int) -> str:
    return f"{GROUP}{text}{seal}{chr(ord(ANY_LENGTH) + length)}"


def _sealed(part: str, verdict: str | None) -> str:
    """A part with its wildcard, or as what it may be besides what it reads like."""
    size = len(part)
    if verdict == "{token}":
        return _group(verdict, TOKEN_SEAL, size)
    if size in _SEALED_LENGTHS:
        if verdict == "{hash}":
            return _group(verdict, HASH_SEAL, size)
        if verdict is None and _HEX_RUN.fullmatch(part):
            return _group(part, HASH_SEAL, size)
    if verdict is None and size >= 16 and _may_be_token(part):
        # Letters only: names in CamelCase have every length, and should not be told apart by it.
        return _group(part, TOKEN_SEAL, 0 if part.isalpha() else size)
    return verdict or part


def _is_signed(text: str, start: int, end: int) -> bool:
    """Have digits a point or a minus beside them? Then they are no hash."""
    before = text[start - 2 : start] if start >= 2 else text[:start]
    if before == "0." or text[end : end + 2] == ".0":
        return True
    return before[-1:] == "-" and not before[:-1].isalnum() and before[:-1] not in ("_", "-")


def _may_be_token(body: str) -> bool:
    return not body.islower() and not (body.isupper() and "0" not in body) and not body.isdigit()


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
    if "0" not in run and len(run) <= LONGEST_WORD and (run.islower() or run.isupper()):
        return run
    body = run.rstrip("=")
    if "-" not in body and "_" not in body:
        verdict = _judge(body)
        if verdict is not None:
            return _sealed(body, verdict)
        if body.isdigit() and _is_signed(match.string, match.start(), match.end()):
            return run
        return _sealed(body, None) + run[len(body) :]
    if _SLUG.fullmatch(body) or (_SLUGGY.fullmatch(body) and len(body) > LONGEST_WORD):
        return _group("{slug}", SLUG_SEAL, 0)
    if _SLUGGY.fullmatch(body):
        return _group(body, SLUG_SEAL, 0)
    parts = _DASHES.split(body)
    if len(body) >= 16 and 2 * sum(len(part) for part in parts[::2] if _is_ugly(part)) >= len(body):
        return _token_between(parts, body)
    verdicts = [_judge(part) for part in parts]
    if "{token}" in verdicts:
        judged = [verdict or part for verdict, part in zip(verdicts, parts, strict=True)]
        merged = _absorb(judged)
        if merged == ["{token}"]:
            return _sealed(body, "{token}")
        if len(merged) < len(judged):
            return _group("".join(merged), TOKEN_SEAL, len(body))
    out = []
    start = match.start()
    for part, verdict in zip(parts, verdicts, strict=True):
        size = len(part)
        if verdict is None and (size < 16 or part.isdigit()):
            plain = size not in _SEALED_LENGTHS or (part.isdigit() and _is_signed(match.string, start, start + size))
            out.append(part if plain else _sealed(part, None))
        else:
            out.append(_sealed(part, verdict))
        start += size
    text = "".join(out)
    return (
        _group(text, TOKEN_SEAL, len(body))
        if "{token}" in verdicts or (len(body) >= 16 and _may_be_token(body))
        else text
    )


def _token_between(parts: list[str], body: str) -> str:
    """A token, with the words before and behind it: view_4fK29dLmQ0xZ_history."""
    first, last = 0, len(parts)
    while first < last - 2 and _LOWER_WORD.fullmatch(parts[first]):
        first += 2
    while last > first + 2 and _LOWER_WORD.fullmatch(parts[last - 1]):
        last -= 2
    middle = _sealed("".join(parts[first:last]), "{token}")
    if first == 0 and last == len(parts):
        return middle
    return _group("".join([*parts[:first], middle, *parts[last:]]), TOKEN_SEAL, len(body))


def _absorb(parts: list[str]) -> list[str]:
    """Join a token with fragments beside it that are no words: base64url has ``-`` and ``_`` among its letters."""
    out = [parts[0]]
    for place in range(1, len(parts), 2):
        dash, part = parts[place], parts[place + 1]
        before = out[-1]
        if before == "{token}" and not _WORDY.fullmatch(part) and part[:1] != "{":
            continue
        prefix = len(out) == 1 and before.islower()  # u_4fK29dLmQ0xZ: whatever the token, u is a name
        if part == "{token}" and (
            before == part or (before[:1] != "{" and not prefix and not _WORDY.fullmatch(before))
        ):
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
        if size > LONGEST_WORD:
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
        if size == 7 and _HEX_RUN.fullmatch(part):
            return "{hash}"  # of git, short
        return None if "T" in part and TOKEN.fullmatch(part) else "{token}"
    if size > LONGEST_WORD or (size >= 20 and changes == 2):
        return "{token}"
    return "{token}" if size >= 16 and _is_ugly(part) else None


def _is_ugly(part: str) -> bool:
    """Does upper and lower case change too often for CamelCase?"""
    if part.islower() or part.isupper() or part.istitle() or part.isdigit():
        return False
    return len(_PIECE.findall(part)) * 3.4 >= len(part)
