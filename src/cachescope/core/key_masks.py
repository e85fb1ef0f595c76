"""Wildcards for the parts of a key that a machine made up: uuids, hashes, tokens, addresses, paths, text.

Everything here reads shapes, texts in which 0 stands for any digit. :func:`mask` is the first half of a sketch; what it
leaves are the pieces that :data:`TOKEN` tells apart, of which some are words.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST_WORD: Final = 48

WILDCARDS: Final = (
    "int|float|version|date|datetime|ip|mac|uuid|hash|token|email|auth|path|query|fragment|text|slug|bytes|word"
)
_LETTER: Final = r"[A-Za-z\x80-\U0010ffff]"

TOKEN: Final = re.compile(
    # words and separators first: most of any key
    rf"(?![vV]0+\.0)({_LETTER}+(?:(?:-{_LETTER}+){{3,}})?)"
    r"|([^A-Za-z0{\x80-\U0010ffff-]+)"
    r"|((?<!0)(?:0{4}-00-00[T ]00:?00(?::?00)?(?:[.,]0+)?(?:Z|[+-]00:?00)?|0{8}T0{4,6}Z?)(?![A-Za-z0]))"
    r"|((?<!0)0{4}(?:-00-00|/00/00)(?!0))"
    r"|((?<![0.])0{1,3}(?:\.0{1,3}){3}(?![.]?0))"
    r"|((?:[vV]0+(?:\.0+)+|(?<![A-Za-z0.])0+(?:\.0+){2,})(?:-?(?:alpha|beta|rc|dev|post|a|b)[.]?0*)?(?![A-Za-z]))"
    r"|((?:(?<![^:=,|(\[ ])-)?(?:0+\.0+(?:[eE][+-]?0+)?(?![.]0)|0+[eE][+-]0+))"
    r"|((?:(?<![^:=,|(\[ /])-)?0+)"
    rf"|(\{{(?:{WILDCARDS})\}})"
    rf"|({_LETTER}+|.)",
    re.DOTALL,
)
IS_WORD: Final = 1
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
_HEX_WORD: Final = re.compile(r"[A-Fa-f]{4,}0{1,8}")
_PIECE: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|0+")
_WORDY: Final = re.compile(r"[a-z]{3,}|[A-Z][a-z]{2,}|[A-Z]{3,}|0+")
_SLUG: Final = re.compile(r"(?=[a-z0-]*0)(?:[a-z]+|0+)(?:-(?:[a-z]+|0+)){5,}")
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
    if "0" not in run and len(run) <= LONGEST_WORD and (run.islower() or run.isupper()):
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
        return None if "T" in part and TOKEN.fullmatch(part) else "{token}"
    if size > LONGEST_WORD or (size >= 20 and changes == 2):
        return "{token}"
    return "{token}" if size >= 16 and _is_ugly(part) else None


def _is_ugly(part: str) -> bool:
    """Does upper and lower case change too often for CamelCase?"""
    if part.islower() or part.isupper() or part.istitle() or part.isdigit():
        return False
    return len(_PIECE.findall(part)) * 3.4 >= len(part)
