"""Hidden key templates, recovered: 12 at random, 60,000 keys of them mixed, and what the pattern table makes of those.

For each seed: how many templates came back as patterns that hold their keys' bytes to the byte and nothing else, how many
patterns are shown, and which templates were lost to what. ``--profiler`` goes through a profiled cache instead of the
table alone (slower, the same figures).
"""

from __future__ import annotations

import argparse
import base64
import collections
import dataclasses
import datetime
import math
import random
import string
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from cachescope.core.patterns import KeyPatterns

TEMPLATES, KEYS = 12, 60_000


def _words(text: str) -> list[str]:
    return text.split()


_SYLLABLES = _words(
    "bo bri clu do dri fi ga ka ko la le lo ma mi mo na ne no pa ra re ri ro sa se ta te ti to va vi za zo"
)
_NAMESPACES = _words(
    "user account session order product cart invoice payment profile catalog price stock feed post comment thread "
    "image thumb video page fragment view query token grant device job task report metric event flag config tenant "
    "team project build commit release package review rating search suggest geo route weather quote rate ledger"
)
_ASPECTS = _words("profile settings summary details meta acl stats html json preview total lines history owner etag")
_APPS = _words("app shop api web svc core cms crm billing auth")
_ENUMS = {
    "status": _words("pending paid shipped refunded cancelled"),
    "state": _words("queued running done failed"),
    "tier": _words("free pro enterprise"),
    "env": _words("dev staging prod"),
    "size": _words("small medium large"),
    "language": _words("de en fr es it pl"),
    "weekday": _words("mon tue wed thu fri sat sun"),
    "currency": _words("EUR USD GBP JPY CHF SEK NOK PLN CZK HUF AUD CAD NZD MXN BRL"),
    "country": _words("DE FR US GB IT ES PL NL BE AT CH SE NO DK FI PT CZ HU RO GR"),
}
_LOCALES = _words("en-US en-GB de-DE de-AT fr-FR fr-CA es-ES es-MX pt-BR pt-PT it-IT nl-NL pl-PL ja-JP zh-CN ko-KR")
_URLSAFE = string.ascii_letters + string.digits + "-_"

Field = Callable[[random.Random], Any]


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 5)))


def _hex(digits: int) -> Field:
    return lambda rng: f"{rng.getrandbits(4 * digits):0{digits}x}"


def _moment(rng: random.Random) -> datetime.datetime:
    return datetime.datetime(2023, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=rng.randrange(10**8))


def _file(rng: random.Random) -> str:
    folders = "/".join(_word(rng) for _ in range(rng.randint(1, 4)))
    return f"/srv/media/{folders}/{_word(rng)}{rng.randrange(1000)}.{rng.choice(['png', 'jpg', 'webp'])}"


def _url(rng: random.Random) -> str:
    query = "&".join(f"{rng.choice('pqrst')}={_word(rng)}" for _ in range(rng.randint(1, 3)))
    return f"https://api.example.com/v1/items/{rng.randrange(10**6)}?{query}"


def _slug(rng: random.Random) -> str:
    return "-".join(
        [*(_word(rng) for _ in range(rng.randint(2, 7))), *([str(rng.randrange(2030))] * rng.randint(0, 1))]
    )


OPEN: dict[str, Field] = {
    "int": lambda rng: rng.randrange(10 ** rng.randint(3, 8)),
    "negative": lambda rng: rng.randrange(-(10**6), 10**6),
    "padded6": lambda rng: f"{rng.randrange(10**6):06d}",
    "padded10": lambda rng: f"{rng.randrange(10**8):010d}",
    "float": lambda rng: f"{rng.uniform(-90, 90):.4f}",
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "uuid hex": lambda rng: uuid.UUID(int=rng.getrandbits(128), version=4).hex,
    "UUID": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)).upper(),
    "hex7": _hex(7),
    "hex8": _hex(8),
    "hex12": _hex(12),
    "hex16": _hex(16),
    "hex24": _hex(24),
    "md5": _hex(32),
    "sha1": _hex(40),
    "sha256": _hex(64),
    "token22": lambda rng: "".join(rng.choices(_URLSAFE, k=22)),
    "token43": lambda rng: "".join(rng.choices(_URLSAFE, k=43)),
    "base62": lambda rng: "".join(rng.choices(string.ascii_letters + string.digits, k=20)),
    "base64": lambda rng: base64.b64encode(rng.randbytes(16)).decode(),
    "ulid": lambda rng: "01" + "".join(rng.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=24)),
    "email": lambda rng: f"{_word(rng)}{rng.choice(['', '.x', '7'])}@{rng.choice(['example.com', 'mail.co.uk'])}",
    "date": lambda rng: _moment(rng).date().isoformat(),
    "compact date": lambda rng: f"{_moment(rng):%Y%m%d}",
    "iso time": lambda rng: _moment(rng).isoformat(),
    "iso time Z": lambda rng: f"{_moment(rng):%Y-%m-%dT%H:%M:%SZ}",
    "epoch": lambda rng: f"{_moment(rng).timestamp():.3f}",
    "ip": lambda rng: ".".join(str(rng.randrange(256)) for _ in range(4)),
    "slug": _slug,
    "name": _word,
    "sku": lambda rng: f"{''.join(rng.choices(string.ascii_uppercase, k=3))}-{rng.randrange(10**5):05d}",
    "locale": lambda rng: rng.choice(_LOCALES),
    "file": _file,
    "url": _url,
    "version": lambda rng: f"{rng.randrange(9)}.{rng.randrange(30)}.{rng.randrange(30)}",
}
"""What a program puts into its keys, each with more values than anybody lists; ``locale`` has a form to know it by."""

_ENDS_ALONE = {"url", "file", "locale"}
"""Not followed by more: a URL takes in what stands behind it, and a cache knows a locale with what it belongs to."""


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """One kind of key: how it reads, how many spellings its enumerated words have, and what makes one."""

    name: str
    spellings: int
    make: Callable[[random.Random], object]
    value_bytes: int


def _template(rng: random.Random, lead: str, used: set[str], number: int) -> Template:
    while True:
        fields: list[str | list[str]] = [rng.choice(sorted(OPEN.keys() - _ENDS_ALONE))]
        if rng.random() < 0.35:
            fields.append(rng.choice(sorted(OPEN)))
        elif rng.random() < 0.05:
            fields = [rng.choice(["url", "file"])]
        enum = rng.choice(sorted(_ENUMS)) if rng.random() < 0.2 and fields[-1] not in _ENDS_ALONE else ""
        ends = fields[-1] not in _ENDS_ALONE and not enum and rng.random() < 0.4
        aspect = rng.choice(_ASPECTS) if ends else ""
        style = rng.choices(["text", "named", "call", "tuple", "versioned"], [10, 2, 1, 4, 2])[0]
        skeleton = f"{lead} {aspect}"
        if skeleton not in used:
            used.add(skeleton)
            break
    makers = [OPEN[name] for name in fields]
    names = [*fields]
    if enum:
        makers.append(lambda rng, words=_ENUMS[enum]: rng.choice(words))
        names.append(enum)
    joint = rng.choices([":", "/", "_", "-", "|", "."], [12, 2, 3, 1, 1, 1])[0]
    if joint in "/_-." and set(fields) & {
        "token22",
        "token43",
        "base64",
        "slug",
        "url",
        "file",
        "float",
        "ip",
        "version",
    }:
        joint = ":"  # nobody can tell where such a field ends
    make, name = _style(style, joint, lead, makers, names, aspect)
    return Template(name, len(_ENUMS[enum]) if enum else 1, make, 40 + 64 * number + rng.randrange(60))


def _style(
    style: str, joint: str, lead: str, makers: list[Field], names: list[str], aspect: str
) -> tuple[Callable[[random.Random], object], str]:
    """How the parts are put together, and how that reads."""
    braced = [f"<{name}>" for name in names]
    end = [aspect] if aspect else []
    if style == "tuple":
        head = lead.replace(":", "_")
        return lambda rng: (head, *(make(rng) for make in makers), *end), repr((head, *braced, *end))
    if style == "call":
        # an f-string such as f"get_user(id={id}, {aspect})"
        call = f"get_{lead.replace(':', '_')}"
        close = f"{', ' + aspect if aspect else ''})"
        return (
            lambda rng: f"{call}({', '.join(f'a{i}={make(rng)}' for i, make in enumerate(makers))}{close}",
            f"{call}({', '.join(braced)}{close}",
        )
    if style == "named":
        return (
            lambda rng: ":".join([lead, *(f"k{i}={make(rng)}" for i, make in enumerate(makers)), *end]),
            ":".join([lead, *(f"k{i}={name}" for i, name in enumerate(braced)), *end]),
        )
    head = f"v2:{lead}" if style == "versioned" else lead
    head = head.replace(":", joint)
    return (
        lambda rng: joint.join([head, *(str(make(rng)) for make in makers), *end]),
        joint.join([head, *braced, *end]),
    )


def templates(seed: int) -> list[Template]:
    """Twelve templates that a reader could tell apart: no two have the same constant words."""
    rng = random.Random(seed)
    leads = rng.sample(_NAMESPACES, TEMPLATES)
    for i in range(1, TEMPLATES):
        if rng.random() < 0.2:
            leads[i] = leads[i - 1]  # one namespace, told apart by what stands behind
        elif rng.random() < 0.3:
            leads[i] = f"{rng.choice(_APPS)}:{leads[i]}"
    used: set[str] = set()
    return [_template(rng, lead, used, number) for number, lead in enumerate(leads)]


def keys(chosen: list[Template], seed: int, count: int = KEYS) -> Iterator[tuple[int, object, int]]:
    """*count* distinct keys mixed at random: the template's number, the key, the bytes of its value."""
    rng = random.Random(f"keys {seed}")
    seen: set[object] = set()
    dull: collections.Counter[int] = collections.Counter()
    while len(seen) < count:
        number = rng.randrange(len(chosen))
        key = chosen[number].make(rng)
        if key in seen:
            dull[number] += 1
            continue
        seen.add(key)
        yield number, key, chosen[number].value_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """What became of the templates of one seed.

    Attributes:
        recovered: Templates whose keys' bytes are held, to the byte, by one pattern that holds nothing else, or, where
            the template has words that anybody would list (a status), by one such pattern for each spelling.
        by_one: Those of them that one pattern holds.
        shown: Patterns shown.
        lost: Template -> the patterns that its keys went to.
    """

    recovered: int
    by_one: int
    shown: int
    lost: dict[str, list[str]]


def score(chosen: list[Template], held: dict[int, dict[str, float]], shown: dict[str, float]) -> Score:
    """Compare what patterns are said to hold (*shown*) with what each template's keys put there (*held*)."""
    owners: dict[str, set[int]] = collections.defaultdict(set)
    for number, parts in held.items():
        for text in parts:
            owners[text].add(number)
    recovered = by_one = 0
    lost: dict[str, list[str]] = {}
    for number, template in enumerate(chosen):
        parts = held.get(number, {})
        pure = all(owners[text] == {number} and shown.get(text) == size for text, size in parts.items())
        if parts and pure and (len(parts) == 1 or len(parts) <= template.spellings):
            recovered += 1
            by_one += len(parts) == 1
        else:
            lost[template.name] = [f"{text} ({size:,.0f})" for text, size in sorted(parts.items(), key=lambda x: -x[1])]
    return Score(recovered, by_one, len(shown), lost)


def score_of_table(seed: int) -> tuple[Score, float]:
    """Score of the pattern table by itself, and microseconds a key."""
    chosen = templates(seed)
    table = KeyPatterns()
    rows = list(keys(chosen, seed))
    began = time.perf_counter()
    ids = [table.id_of(key) for _, key, _ in rows]
    took = time.perf_counter() - began
    held: dict[int, dict[str, float]] = collections.defaultdict(lambda: collections.defaultdict(float))
    shown: dict[str, float] = collections.defaultdict(float)
    for (number, _, value_bytes), found in zip(rows, ids, strict=True):
        held[number][table.text(found)] += value_bytes
        shown[table.text(found)] += value_bytes
    return score(chosen, held, shown), took / len(rows) * 1e6


def score_of_profiler(seed: int, make: Callable[[], Any] = dict) -> Score:
    """Score of a profiled cache: the bytes are those of its hotspots by pattern."""
    from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument

    chosen = templates(seed)
    # Long ticks: a burst of 60,000 sets in a second is thinned out otherwise, and its figures are estimates.
    config = ProfilerConfig(level="basic", followed_keys=4 * KEYS, tick_seconds=60.0)
    rows = [(number, key, bytes(size)) for number, key, size in keys(chosen, seed)]
    with CacheMemoryProfiler(config) as profiler:
        # A weigher, so that what an entry weighs is known beforehand, whatever its key.
        cache = instrument(make(), name="mixed", weigher=lambda _, value: len(value), profiler=profiler)
        for _, key, value in rows:
            cache[key] = value
        spots = profiler.get_memory_hotspots("mixed", by="pattern", min_allocations=1)
    shown = {str(spot.key_pattern): float(spot.live_bytes) for spot in spots}
    table = KeyPatterns()
    held: dict[int, dict[str, float]] = collections.defaultdict(lambda: collections.defaultdict(float))
    ids = [table.id_of(key) for _, key, _ in rows]
    for (number, _, value), found in zip(rows, ids, strict=True):
        held[number][table.text(found)] += len(value)
    return score(chosen, held, shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--profiler", action="store_true")
    options = parser.parse_args()
    scores = []
    print(f"{'seed':>5} {'recovered':>9} {'by one':>7} {'shown':>6} {'us/key':>7}  lost, and to what")
    for seed in range(options.first, options.first + options.seeds):
        found, us = (score_of_profiler(seed), math.nan) if options.profiler else score_of_table(seed)
        scores.append(found)
        print(f"{seed:5} {found.recovered:9} {found.by_one:7} {found.shown:6} {us:7.2f}", flush=True)
        for name, parts in found.lost.items():
            print(f"{'':38}  {name}: {len(parts)}: {'  '.join(parts[:4])}")
    good = sum(s.recovered >= 11 for s in scores)
    print(
        f"\n{len(scores)} seeds: at least 11 of 12 recovered in {good / len(scores):.0%}, least "
        f"{min(s.recovered for s in scores)}, mean {sum(s.recovered for s in scores) / len(scores):.2f}; by one pattern "
        f"{sum(s.by_one for s in scores) / len(scores):.2f}; most patterns shown {max(s.shown for s in scores)}, "
        f"at most 24 in {sum(s.shown <= 24 for s in scores) / len(scores):.0%}"
    )


if __name__ == "__main__":
    main()
