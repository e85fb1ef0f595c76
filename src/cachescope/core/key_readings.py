"""What a sealed field may be: the readings of a skeleton.

A field that may be a hash, token or slug, though it reads like a number or words, stands between seals (see
:mod:`~cachescope.core.key_masks`). A reading takes some of those for what they may be.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from cachescope.core.key_masks import ANY_LENGTH, GROUP, HASH_SEAL, HOLE, SLUG_SEAL, TOKEN_SEAL, WILDCARDS, WORD

_KINDS: Final = {TOKEN_SEAL: "{token}", HASH_SEAL: "{hash}", SLUG_SEAL: "{slug}"}
_LENGTHS: Final = re.compile(f"(?<=[{TOKEN_SEAL}{HASH_SEAL}]).")  # slugs have none
_MOST_GROUPS: Final = 4  # in one skeleton that are tried as what they may be, each with and without the others
_LETTERS_ONLY: Final = TOKEN_SEAL + ANY_LENGTH
_FIELD: Final = re.compile(rf"[_-]*(?:\0|\{{(?:{WILDCARDS})\}})(?:[_-]*(?:\0|\{{(?:{WILDCARDS})\}}))*[_-]*")
_ATOMS: Final = frozenset("{%s}" % name for name in WILDCARDS.split("|"))  # noqa: UP031 - braces


def readings(skeleton: str, words: list[str]) -> list[tuple[str, list[str]]]:
    """What a skeleton may be, and the words left, if some of its groups are what they are sealed as.

    The most general ones come first.
    """
    if GROUP not in skeleton:
        return []
    lengths = ""
    if _LETTERS_ONLY in skeleton:  # the word says how long such a one is
        lengths = "".join(chr(ord(ANY_LENGTH) + (0 if word == WORD else len(word))) for word in words)
    return [(candidate, [words[i] for i in left]) for candidate, left in _candidates(skeleton, lengths)]


@functools.lru_cache(maxsize=512)  # at most 0.5 MB; words behind a sealed field come with one skeleton
def _candidates(skeleton: str, lengths: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """For each reading: its skeleton, and the numbers of the holes that are left."""
    spans = _spans(skeleton)[:_MOST_GROUPS]
    every = range(skeleton.count(HOLE))
    out: dict[str, tuple[int, ...]] = {}
    for chosen in range((1 << len(spans)) - 1, 0, -1):
        text, start, gone, any_length = "", 0, set[int](), False
        for number, (opened, closed) in enumerate(spans):
            if not chosen >> (len(spans) - 1 - number) & 1:
                continue
            if opened < start:
                break  # inside one that is chosen
            first = skeleton.count(HOLE, 0, opened)
            gone.update(range(first, first + skeleton.count(HOLE, opened, closed)))
            seal = skeleton[closed : closed + 2]
            if seal == _LETTERS_ONLY and lengths:
                seal = TOKEN_SEAL + lengths[first]
            any_length |= seal == _LETTERS_ONLY
            text += f"{skeleton[start:opened]}{GROUP}{_KINDS[seal[0]]}{seal}"
            start = closed + 2
        else:
            text += skeleton[start:]
            out.setdefault(of_any_length(text) if any_length else text, tuple(i for i in every if i not in gone))
    return tuple(out.items())


def _spans(skeleton: str) -> list[tuple[int, int]]:
    """Where the groups begin and where their seals are, without those that are certain; outer ones first."""
    opened: list[int] = []
    found = []
    for place, character in enumerate(skeleton):
        if character == GROUP:
            opened.append(place)
        elif character in _KINDS and opened and place + 1 < len(skeleton):
            begin = opened.pop()
            if skeleton[begin + 1 : place] != _KINDS[character]:
                found.append((begin, place))
    return sorted(found)


def is_certain(skeleton: str) -> bool:
    """Has it a field that certainly is a hash, token or slug?"""
    return any(f"{GROUP}{kind}{seal}" in skeleton for seal, kind in _KINDS.items())


def of_any_length(skeleton: str) -> str:
    """The skeleton without the lengths of its sealed fields."""
    return _LENGTHS.sub(ANY_LENGTH, skeleton)


def form_of(skeleton: str, words: list[str]) -> tuple[str, list[str]]:
    """Return a skeleton with its fields of several parts as {token}, and the words left."""
    out = []
    kept = []
    start = place = 0
    for match in _FIELD.finditer(skeleton):
        field = match.group()
        out.append(skeleton[start : match.start()])
        start = match.end()
        if field == HOLE:
            kept.append(words[place])
            out.append(field)
        elif field in _ATOMS:
            out.append(field)
        else:
            out.append("{token}")
        place += field.count(HOLE)
    out.append(skeleton[start:])
    return "".join(out), kept


def place_of_hole(skeleton: str, number: int) -> int:
    """Where the hole of that number is, counted from 0."""
    place = -1
    for _ in range(number + 1):
        place = skeleton.find(HOLE, place + 1)
    return place
