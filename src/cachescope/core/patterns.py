"""Key patterns: ``user:123:profile`` and its like become ``user:{int}:profile``.

A key goes through these steps:

1. **shape**: every ASCII digit becomes 0. All that follows sees only the shape, so keys of one shape have one pattern
   by construction; the hot path caches by it. That is why ``2024-13-99`` is a ``{date}`` and ``999.0.0.1`` an ``{ip}``.
2. **sketch**: what is certain to vary becomes a wildcard: ``{int} {float} {version} {date} {datetime} {ip} {mac} {uuid}
   {hash} {token} {email} {path} {query} {text} {slug} {locale} {bytes}``. What is left are separators and words. A
   sketch is the *skeleton*, text with a hole (NUL) for each word, and the words.
3. **seals**: a hash may happen to be all digits, a token to read like a name. What may be one reads as it is, unless a
   certain one of the same length stands in the same place of another key; then it is one too.
4. **tree**: one for each skeleton, a level for each hole. A node with too many different words under it becomes
   ``{word}`` and its subtrees are joined; behind a wildcard it takes fewer, a list of countries rather than of namespaces.
5. **form**: random text that step 2 took for words makes ever new skeletons. When too many differ only within fields
   such as ``ab_{int}-x``, those fields become ``{token}``.

What steps 3 to 5 come to depends on the set of keys seen and not on their order: a node or form once generalised stays
so, and joining is a union. Merging tables is therefore commutative and associative, while no limit is met.

Nothing of a key's class is called: text, bytes and tuples are read through the methods of their base, other objects by
their type.
"""

from __future__ import annotations

from typing import Any, Final

from cachescope.core.key_masks import mask
from cachescope.core.key_sketch import LONGEST_TEXT, MOST_ITEMS, ZEROS, Sketch, fill, fit, is_mark, unsealed
from cachescope.core.pattern_trees import OVERFLOW, PatternTrees

_LIMIT: Final = 512
_MOST_SHAPES: Final = 2048  # for each of the four caches of a table


def pattern_of(key: object) -> str:
    """Return the pattern of one key by itself, in which words stay as they are.

    Args:
        key: Any object. None of its own methods is called.

    Returns:
        Printable text of at most 120 characters.
    """
    try:
        skeleton, words = Sketch().of(key)
        return fill(skeleton, words)
    except Exception:  # a profiler never fails its host; by design nothing gets here
        return OVERFLOW


class KeyPatterns(PatternTrees):
    """The patterns of one cache's keys, learned as they come, in bounded memory.

    A pattern is an int id. Its text never changes; when words at one place turn out to be many, the ids of the literal
    patterns are folded into the wildcard's: ``resolve`` tells where to, and ``generalisations`` rises. Id 0 is
    ``overflow``.

    Memory: at most *limit* patterns live; at most 64 times as many literal ones are ever made (two list slots each once
    folded); four caches of 2,048 shapes of at most 256 characters. Measured: 0.2 MB after 100,000 distinct words,
    1.0 MB after 10,000 tuples of six words, 2.5 MB after 5,000 keys of 250 random characters (by then full).

    Time (CPython 3.11): 0.2 us for a text of known shape, 0.5 us for a tuple of two, 2 to 7 us for what holds a uuid,
    a hash, a token or a new word, 16 us for a slug, 13 to 27 us for the first of a shape. Of a text 256 characters are
    read, however long it is.

    What it gets wrong: among hashes of 8, a number of 8 digits is a hash. Once the fields of one form were random, all
    keys of that form have {token} there, readable ones too. User names with and without a number are two patterns. A
    status of few words is a pattern for each word. Two ids may share a text: it was cut, or they differ in a length
    that is not shown.

    What depends on the order of arrival: the ids; what a field is that may be two things of one length; and once
    *limit* is met, which keys overflow or are folded early.

    Not thread-safe: one thread at a time.

    Args:
        limit: Most patterns kept apart. When it is met, places with fewer words become ``{word}`` too; after that keys
            of new patterns count as overflow.

    Attributes:
        generalisations: How often patterns were folded; when it has risen, ids held elsewhere are to be resolved again.

    Raises:
        ValueError: *limit* is not positive.
    """

    __slots__ = ("_bytes", "_int", "_masks", "_shapes", "_tuples")

    def __init__(self, limit: int = _LIMIT) -> None:
        super().__init__(limit)
        self._int = 0
        self._shapes: dict[bytes, int] = {}
        self._bytes: dict[bytes, int] = {}  # apart from str: the same bytes are two keys
        self._masks: dict[str | tuple[object, ...], int] = {}
        self._tuples: dict[tuple[object, ...], int] = {}

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
                if len(key) <= LONGEST_TEXT:  # type: ignore[arg-type]  # its kind says what it is
                    # Twice as fast as str.translate, five times if that has gaps in its table.
                    shape = key.encode().translate(ZEROS)  # type: ignore[attr-defined]  # its kind says what it is
                    found = self._shapes.get(shape)
                    return self._learn_shape(shape) if found is None else found
            elif kind is int:
                return self._int or self._learn_int()
            elif kind is tuple:
                return self._of_tuple(key)  # type: ignore[arg-type]  # its kind says what it is
            elif kind is bytes and len(key) <= LONGEST_TEXT:  # type: ignore[arg-type]  # its kind says what it is
                found = self._bytes.get(key.translate(ZEROS))  # type: ignore[attr-defined]  # its kind says what it is
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
        masked = mask(text)
        random = masked != text
        if random:
            found = self._masks.get(masked)
            if found is not None:
                return found
            random = unsealed(masked) != text
        sketch = Sketch()
        found = self._place(*fit(sketch.masked(masked), sketch.words))
        if random:
            _remember(self._masks, masked, found)
        else:
            _remember(self._shapes, shape, found)
        return found

    def _learn(
        self, key: object, shape: tuple[object, ...] | None = None, masked: tuple[object, ...] | None = None
    ) -> int:
        sketch = Sketch()
        found = self._place(*sketch.of(key))
        if shape is not None:
            # Two dicts, for bytes and str may not meet as keys: they hash alike, and -bb forbids comparing them.
            if sketch.random:
                _remember(self._masks, masked, found)
            else:
                _remember(self._tuples, shape, found)
        elif type(key) is bytes and len(key) <= LONGEST_TEXT and not sketch.random:
            _remember(self._bytes, key.translate(ZEROS), found)
        return found

    def _folded(self) -> None:
        super()._folded()
        # Whatever a cache answers is to be a resolved id.
        self._shapes.clear()
        self._bytes.clear()
        self._masks.clear()
        self._tuples.clear()
        self._int = 0


def _tuple_shape(key: tuple[object, ...], depth: int) -> tuple[object, ...] | None:
    """Shape of a tuple of plain leaves, None for others: then nothing is cached.

    Holds types and constants of ours, never the user's classes or objects; nor are those compared or hashed.
    """
    if len(key) > MOST_ITEMS:
        return None
    out: list[object] = []
    for item in key:
        kind = type(item)
        if kind is str:
            if len(item) > 64:  # type: ignore[arg-type]  # its kind says what it is
                return None
            out.append(item.encode().translate(ZEROS))  # type: ignore[attr-defined]  # its kind says what it is
        elif kind is int or kind is float:
            out.append(kind)
        elif item is None or kind is bool:
            out.append(item)
        elif kind is tuple and depth < 1:  # deeper ones are rare, and eight by eight by eight items are many
            below = _tuple_shape(item, depth + 1)  # type: ignore[arg-type]  # its kind says what it is
            if below is None:
                return None
            out.append(below)
        elif kind is type and is_mark(item):
            out.append(Ellipsis)
        else:
            return None
    return tuple(out)


def _tuple_mask(shape: tuple[object, ...]) -> tuple[object, ...]:
    """Mask a tuple's texts: they become str, which tells the result from a shape."""
    return tuple([mask(x.decode()) if type(x) is bytes else _tuple_mask(x) if type(x) is tuple else x for x in shape])


def _remember(cache: dict[Any, int], shape: Any, found: int) -> None:
    if len(cache) >= _MOST_SHAPES:
        cache.clear()  # shapes in use come back at some 10 us each, once in 2,048 new ones
    cache[shape] = found
