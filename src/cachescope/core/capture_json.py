"""A capture's payload: JSON, compressed, checked on the way in and mistrusted on the way out.

JSON holds all that the folds' states need but one thing: Python refuses to read or write decimals of thousands of
digits. Such an int is stored as ``{"$int": "0x..."}``, an object of the caller's that looks like that gets one more
``$``, and flag 1 says that either happened.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Final

from cachescope.core.errors import CaptureError

MAX_PAYLOAD_BYTES: Final = 1 << 30
MAX_DEPTH: Final = 256
"""Levels of nesting. A limit of our own, because the interpreter's depends on the version and on who calls us."""
FLAG_TAGGED: Final = 1
_TAG: Final = "$int"
_TAG_OR_ESCAPED: Final = re.compile(r"\$+int")
# 640 digits is the lowest limit that sys.set_int_max_str_digits() accepts: 2^2048 has 617.
_LARGEST_DECIMAL: Final = 1 << 2048

# The C encoder holds the GIL for the whole of one call. These two keep it to some milliseconds at worst, so that a
# flush in the background thread does not stop the program for the length of a large capture.
_HEAVY_LEAVES: Final = 1_024
_BATCH: Final = 128
_FEED_BYTES: Final = 1 << 16
_ZLIB_LEVEL: Final = 1  # 4 MB of counters and patterns: level 6 takes five times as long and saves 8 %
_PLAIN: Final = frozenset({str, bool, type(None)})
_CONTAINERS: Final = (dict, list, tuple)

_encode: Final = json.JSONEncoder(
    ensure_ascii=True,  # lone surrogates survive, and what is left has no encoding to get wrong
    allow_nan=False,
    check_circular=False,  # a cycle runs into MAX_DEPTH first
    separators=(",", ":"),
).encode


def encode_payload(payload: dict[str, object]) -> tuple[list[bytes], int, int]:
    """Check and encode *payload*: compressed blocks, flags, length of the JSON in bytes."""
    flags = 0
    try:
        check = _Check()
        check.weigh(payload)
        if check.needs_tags:
            # Rare, so it may cost a copy.
            flags = FLAG_TAGGED
            payload = _tagged(payload)
            check = _Check(MAX_DEPTH + 1)  # a tag is a level
            check.weigh(payload)
        stream = _JsonStream(check.heavy)
        stream.write(payload)
        return stream.finish(), flags, stream.n_bytes
    except RecursionError as error:
        raise CaptureError("can't store the payload: too little stack is left for its nesting") from error
    except (RuntimeError, TypeError, ValueError) as error:
        # All elements were checked, so another thread must have changed one: hand over a snapshot, not live state.
        raise CaptureError(f"can't store the payload: it changed while it was being written ({error})") from error


class _Check:
    """One walk over a payload: refuse what JSON would lose, and find out how large the parts are.

    Args:
        max_depth: Levels of nesting to accept.

    Attributes:
        heavy: Identities of the containers with more than ``_HEAVY_LEAVES`` elements below them.
        needs_tags: Some int is too large for a decimal, or some object looks like our notation for it.
    """

    __slots__ = ("_max_depth", "_path", "heavy", "needs_tags")

    def __init__(self, max_depth: int = MAX_DEPTH) -> None:
        self._max_depth = max_depth
        self.heavy: set[int] = set()
        self.needs_tags = False
        self._path: list[object] = []

    def weigh(self, container: object) -> int:
        """Check everything below a dict, list or tuple, and return how many elements that is."""
        steps: Iterable[tuple[object, object]]
        if isinstance(container, dict):
            if container and set(map(type, container)) != {str}:
                self._check_keys(container)
            if len(container) == 1 and _TAG_OR_ESCAPED.fullmatch(next(iter(container))):
                self.needs_tags = True
            n_elements, kinds, steps = len(container), set(map(type, container.values())), container.items()
        else:
            assert isinstance(container, (list, tuple))
            n_elements, kinds, steps = len(container), set(map(type, container)), enumerate(container)
        if not kinds <= _PLAIN:
            for step, value in steps:
                kind = type(value)
                if kind in _PLAIN:
                    continue
                if isinstance(value, int):
                    if not -_LARGEST_DECIMAL < value < _LARGEST_DECIMAL:
                        self.needs_tags = True
                elif isinstance(value, float):
                    if not isfinite(value):
                        raise self._refusal(f"is {float.__repr__(value)}: only finite floats can be stored", step)
                elif isinstance(value, _CONTAINERS):
                    if len(self._path) >= self._max_depth - 1:
                        raise self._refusal(f"is nested deeper than {self._max_depth} levels, or contains itself", step)
                    self._path.append(step)
                    n_elements += self.weigh(value)
                    self._path.pop()
                elif not isinstance(value, str):
                    raise self._refusal(f"is {type_name(value)}: only JSON types can be stored", step)
        if n_elements > _HEAVY_LEAVES:
            self.heavy.add(id(container))
        return n_elements

    def _check_keys(self, container: dict[object, object]) -> None:
        for key in container:
            if not isinstance(key, str):
                # The key itself is shown when its repr is no code of the user's.
                shown = f" {key!r}" if type(key) in {int, float, bool, type(None), bytes} else ""
                raise self._refusal(f"has the key{shown} of type {type(key).__qualname__}: only str keys can be stored")

    def _refusal(self, reason: str, *last: object) -> CaptureError:
        steps = [*self._path, *last]
        if len(steps) > 20:
            steps[10:-10] = [...]
        place = "".join(f"[{_shortened(step)}]" for step in steps)
        return CaptureError(f"can't store the payload: payload{place} {reason}")


class _JsonStream:
    """JSON in, compressed blocks out, the whole text never in memory.

    Args:
        heavy: The containers to take apart; all others go to the C encoder in one piece.
    """

    __slots__ = ("_blocks", "_compressor", "_heavy", "_parts", "_parts_bytes", "n_bytes")

    def __init__(self, heavy: set[int]) -> None:
        self.n_bytes = 0
        self._heavy = heavy
        self._compressor = zlib.compressobj(_ZLIB_LEVEL)
        self._blocks: list[bytes] = []
        self._parts: list[str] = []
        self._parts_bytes = 0

    def write(self, value: object) -> None:
        if id(value) not in self._heavy:
            self._feed(_encode(value))
        elif isinstance(value, dict):
            self._write_dict(value)
        else:
            assert isinstance(value, (list, tuple))
            self._write_list(value)

    def finish(self) -> list[bytes]:
        self._flush()
        self._blocks.append(self._compressor.flush())
        return self._blocks

    def _write_dict(self, value: dict[str, object]) -> None:
        separator = "{"
        batch: dict[str, object] = {}
        for key, child in value.items():
            is_heavy = id(child) in self._heavy
            if not is_heavy:
                batch[key] = child
            if batch and (is_heavy or len(batch) >= _BATCH):
                self._feed(separator + _encode(batch)[1:-1])
                separator = ","
                batch = {}
            if is_heavy:
                self._feed(f"{separator}{_encode(key)}:")
                separator = ","
                self.write(child)
        self._feed(separator + _encode(batch)[1:] if batch else "}")

    def _write_list(self, value: list[object] | tuple[object, ...]) -> None:
        separator = "["
        batch: list[object] = []
        for child in value:
            is_heavy = id(child) in self._heavy
            if not is_heavy:
                batch.append(child)
            if batch and (is_heavy or len(batch) >= _BATCH):
                self._feed(separator + _encode(batch)[1:-1])
                separator = ","
                batch = []
            if is_heavy:
                self._feed(separator)
                separator = ","
                self.write(child)
        self._feed(separator + _encode(batch)[1:] if batch else "]")

    def _feed(self, text: str) -> None:
        self._parts.append(text)
        self._parts_bytes += len(text)
        if self._parts_bytes >= _FEED_BYTES:
            self._flush()

    def _flush(self) -> None:
        self.n_bytes += self._parts_bytes
        if self.n_bytes > MAX_PAYLOAD_BYTES:
            raise CaptureError(f"can't store the payload: it exceeds {MAX_PAYLOAD_BYTES} bytes of JSON; collect less")
        block = self._compressor.compress("".join(self._parts).encode("ascii"))
        self._parts.clear()
        self._parts_bytes = 0
        if block:
            self._blocks.append(block)


def _tagged(value: dict[str, object]) -> dict[str, object]:
    """Copy *value* with ints that no decimal may hold as tags, and the caller's look-alikes escaped."""

    def copy(value: object) -> object:
        if isinstance(value, dict):
            copied = {key: copy(child) for key, child in value.items()}
            if len(copied) == 1 and _TAG_OR_ESCAPED.fullmatch(key := next(iter(copied))):
                return {"$" + key: copied[key]}
            return copied
        if isinstance(value, (list, tuple)):
            return [copy(child) for child in value]
        if isinstance(value, int) and not -_LARGEST_DECIMAL < value < _LARGEST_DECIMAL:
            return {_TAG: hex(value)}  # unlike a decimal, read in linear time
        return value

    copied = copy(value)
    assert isinstance(copied, dict)
    return copied


def _untagged(value: dict[str, object]) -> object:
    if len(value) != 1:
        return value
    ((key, content),) = value.items()
    if key == _TAG:
        if not isinstance(content, str):
            raise ValueError("a tag without a number")
        return int(content, 16)
    if _TAG_OR_ESCAPED.fullmatch(key):
        return {key[1:]: content}
    return value


def decode_payload(source: Path, text: bytes, *, tagged: bool) -> dict[str, object]:
    """The payload of a capture's JSON."""
    try:
        # Decoded here, since json.loads would guess UTF-16 or UTF-32 from the bytes.
        payload: object = json.loads(
            text.decode("utf-8"), object_hook=_untagged if tagged else None, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise damaged(source, "its payload is nested too deeply") from error
    except ValueError as error:
        raise damaged(source, f"its payload is not JSON ({error})") from error
    if not isinstance(payload, dict):
        raise damaged(source, f"its payload is {type_name(payload)}, not a JSON object")
    return payload


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def inflated(source: Path, stored: bytes, payload_bytes: int) -> bytes:
    """Decompress, but never into more than the header stated."""
    decompressor = zlib.decompressobj()
    try:
        # One byte more than stated: at exactly the length, zlib would not look at the end of the stream.
        text = decompressor.decompress(stored, payload_bytes + 1)
    except zlib.error as error:
        raise damaged(source, f"it can't be decompressed ({error})") from error
    if len(text) != payload_bytes or not decompressor.eof or decompressor.unused_data:
        raise damaged(source, "its payload has not the length that its header states")
    return text


def damaged(source: Path, reason: str) -> CaptureError:
    """The error for a file that holds something else than was written."""
    return CaptureError(f"{source} is damaged: {reason}; copy it again, or use another capture of the run")


def type_name(value: object) -> str:
    """What a value is, without its repr."""
    kind = type(value)
    return "None" if value is None else f"of type {kind.__qualname__}"


def _shortened(step: object) -> str:
    if step is ...:
        return "..."
    text = repr(step) if not isinstance(step, str) else str.__repr__(step)
    return text if len(text) <= 60 else f"{text[:57]}..."
