"""The capture file holds what was given to it, or is refused in clear words; and it is never half a file."""

from __future__ import annotations

import collections
import contextlib
import enum
import errno
import gzip
import hashlib
import json
import math
import os
import pickle
import random
import re
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import types
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.core import capture, capture_json
from cachescope.core.capture import (
    CAPTURE_VERSION,
    MAGIC,
    capture_path,
    read_capture,
    sibling_captures,
    write_capture,
)
from cachescope.core.capture_json import MAX_DEPTH, MAX_PAYLOAD_BYTES
from cachescope.core.errors import CachescopeError, CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions, limits and signals")

SRC = Path(capture.__file__).parents[2]
SMALL = {"caches": {"users": {"hits": 12, "ratio": 0.25, "patterns": ["user:*", None, True]}}}


def forge(
    text: bytes, *, version: int = CAPTURE_VERSION, flags: int = 0, payload_bytes: int | None = None, tail: bytes = b""
) -> bytes:
    """A file with a right checksum around anything, made from the format's description alone."""
    stored = zlib.compress(text) + tail
    fields = struct.pack(">HHQQ", version, flags, len(text) if payload_bytes is None else payload_bytes, len(stored))
    return MAGIC + fields + hashlib.blake2b(fields + stored, digest_size=16).digest() + stored


def without_bytes(value: object) -> str:
    """The name of a test: bytes hold times, and processes that share a test run must agree on its names."""
    return value if isinstance(value, str) else "file"


def refusal(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        read_capture(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def same(left: object, right: object) -> bool:
    """Equal, and of the same types: 1 is not True, -0.0 not 0.0, and the keys keep their order."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        assert isinstance(right, dict)
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        assert isinstance(right, list)
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        assert isinstance(right, float)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return left == right


def round_trip(path: Path, payload: dict[str, Any]) -> dict[str, object]:
    assert write_capture(path, payload) == path.stat().st_size
    return read_capture(path)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may do anything: be nobody for a moment, so that permissions count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# -- round trips -----------------------------------------------------------------------------------------------------

texts = st.text(st.characters(), max_size=20)  # st.characters() includes lone surrogates
keys = texts | st.sampled_from(["$int", "$$int", "$", "int"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(1 << 2100), max_value=1 << 2100)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=30)


@settings(max_examples=150, deadline=None)
@given(payload=st.dictionaries(keys, values))
def test_any_json_value_comes_back_equal(payload: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.capture"
    assert same(round_trip(path, payload), payload)


@settings(max_examples=100, deadline=None)
@given(payload=st.dictionaries(keys, values), heavy=st.integers(0, 6), batch=st.integers(1, 3))
def test_taking_the_payload_apart_makes_the_same_json_as_one_piece(
    payload: dict[str, Any], heavy: int, batch: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture_json, "_HEAVY_LEAVES", heavy)
        patch.setattr(capture_json, "_BATCH", batch)
        patch.setattr(capture_json, "_FEED_BYTES", 7)
        blocks, flags, n_bytes = capture_json.encode_payload(payload)
    text = zlib.decompress(b"".join(blocks))
    whole = capture_json._tagged(payload) if flags else payload
    assert text == json.dumps(whole, separators=(",", ":")).encode()
    assert n_bytes == len(text)


def test_a_large_payload_comes_back_equal(tmp_path: Path) -> None:
    payload = {
        "sketch": list(range(30_000)),
        "pairs": [[f"user:{i}", i, i / 7] for i in range(5_000)],
        "by_key": {f"k{i}": {"n": i, "deep": [[i]]} for i in range(5_000)},
        "flat": {str(i): None for i in range(5_000)},
        "mixed": [1, list(range(3_000)), 2, {str(i): i for i in range(3_000)}, [], {}],
        "empty": {},
        "blob": "x\ud800" * 100_000,
    }
    assert same(round_trip(tmp_path / "a.capture", payload), payload)


@pytest.mark.parametrize("digits", [600, 640, 641, 4_300, 4_301, 50_000])
@pytest.mark.parametrize("limit", [0, 640, 4_300])
def test_ints_of_any_size_come_back_whatever_the_interpreters_limit_for_decimals(
    tmp_path: Path, digits: int, limit: int
) -> None:
    former = sys.get_int_max_str_digits()
    value = 10 ** (digits - 1)
    payload = {"n": value, "list": [1, -value, 2], "$int": {"$int": value - 1}, "other": {"$$int": "0x10"}}
    write_capture(tmp_path / "a.capture", payload)
    sys.set_int_max_str_digits(limit)
    try:
        assert round_trip(tmp_path / "b.capture", payload) == payload
        assert read_capture(tmp_path / "a.capture") == payload
    finally:
        sys.set_int_max_str_digits(former)


def test_an_int_too_large_for_a_decimal_at_the_deepest_level_comes_back(tmp_path: Path) -> None:
    payload: dict[str, Any] = {"n": 1 << 9_999}
    for _ in range(MAX_DEPTH - 1):
        payload = {"in": payload}
    assert round_trip(tmp_path / "a.capture", payload) == payload


def test_relatives_of_the_json_types_come_back_as_those(tmp_path: Path) -> None:
    class Level(enum.IntEnum):
        BASIC = 1

    class Name(str):
        __slots__ = ()

    point = collections.namedtuple("point", "x y")
    payload = types.MappingProxyType(
        {
            "tuple": (1, (2, 3)),
            "named": point(1, 2),
            "enum": Level.BASIC,
            "counter": collections.Counter({Name("a"): 2}),
            "name": Name("n"),
            "ordered": collections.OrderedDict(b=1, a=2),
        }
    )
    write_capture(tmp_path / "a.capture", payload)
    expected = {
        "tuple": [1, [2, 3]],
        "named": [1, 2],
        "enum": 1,
        "counter": {"a": 2},
        "name": "n",
        "ordered": {"b": 1, "a": 2},
    }
    assert same(read_capture(tmp_path / "a.capture"), expected)


def test_the_same_payload_makes_the_same_bytes(tmp_path: Path) -> None:
    write_capture(tmp_path / "a.capture", SMALL)
    write_capture(tmp_path / "b.capture", SMALL)
    assert (tmp_path / "a.capture").read_bytes() == (tmp_path / "b.capture").read_bytes()


def test_a_file_made_from_the_description_of_the_format_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.capture").write_bytes(forge(json.dumps(SMALL, ensure_ascii=False).encode()))
    assert read_capture(tmp_path / "a.capture") == SMALL


# -- what is refused at write ----------------------------------------------------------------------------------------


class Loud:
    def __repr__(self) -> str:
        raise AssertionError("no code of the user's is run")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"a": [0.5, {"b": math.nan}]}, "payload['a'][1]['b'] is nan"),
        ({"a": (1, math.inf)}, "payload['a'][1] is inf"),
        ({"a": -math.inf}, "payload['a'] is -inf"),
        ({"a": {"b": {7: 1}}}, "payload['a']['b'] has the key 7 of type int"),
        ({None: 1}, "payload has the key None of type NoneType"),
        ({"a": [{("x", 1): 1}]}, "payload['a'][0] has the key of type tuple"),
        ({"a": {Loud(): 1}}, "payload['a'] has the key of type Loud"),
        ({"a": [Loud()]}, "payload['a'][0] is of type Loud: only JSON types"),
        ({"a": b"bytes"}, "payload['a'] is of type bytes"),
        ({"a": {1, 2}}, "payload['a'] is of type set"),
        ({"a": types.MappingProxyType({})}, "payload['a'] is of type mappingproxy"),
        ({"k" * 200: math.nan}, "kkk...] is nan"),
        ([1], "a capture holds a mapping, not of type list"),
        (None, "a capture holds a mapping, not None"),
    ],
)
def test_what_json_would_lose_is_refused_by_its_place(tmp_path: Path, payload: Any, message: str) -> None:
    path = tmp_path / "a.capture"
    write_capture(path, SMALL)
    with pytest.raises(CaptureError, match=re.escape(message)):
        write_capture(path, payload)
    assert read_capture(path) == SMALL
    assert os.listdir(tmp_path) == ["a.capture"]


def test_cycles_and_bottomless_nesting_are_refused(tmp_path: Path) -> None:
    cycle: dict[str, Any] = {"a": []}
    cycle["a"].append(cycle)
    with pytest.raises(CaptureError, match="contains itself"):
        write_capture(tmp_path / "a.capture", cycle)

    nested: list[Any] = []
    for _ in range(MAX_DEPTH - 2):
        nested = [nested]
    assert round_trip(tmp_path / "a.capture", {"a": nested}) == {"a": nested}
    with pytest.raises(CaptureError, match=f"deeper than {MAX_DEPTH} levels"):
        write_capture(tmp_path / "a.capture", {"a": [nested]})


def test_too_little_stack_is_a_capture_error(tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(MAX_DEPTH - 2):
        nested = [nested]

    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        else:
            write_capture(tmp_path / "a.capture", {"a": nested})

    depth = len(list(frame_chain()))
    with pytest.raises(CaptureError, match="too little stack"):
        descend(sys.getrecursionlimit() - depth - 120)


def frame_chain() -> Iterator[types.FrameType]:
    frame: types.FrameType | None = sys._getframe()
    while frame:
        yield frame
        frame = frame.f_back


def test_a_payload_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_json, "MAX_PAYLOAD_BYTES", 1_000)
    write_capture(tmp_path / "a.capture", {"a": "x" * 900})
    with pytest.raises(CaptureError, match="exceeds 1000 bytes"):
        write_capture(tmp_path / "a.capture", {"a": "x" * 1_000})
    assert read_capture(tmp_path / "a.capture") == {"a": "x" * 900}


# -- what is refused at read -----------------------------------------------------------------------------------------


def test_every_corruption_of_a_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    write_capture(tmp_path / "a.capture", SMALL)
    good = (tmp_path / "a.capture").read_bytes()
    path = tmp_path / "bad.capture"
    for position, byte in enumerate(good):
        for wrong in {byte ^ 1, byte ^ 0x80, byte ^ 0xFF, 0, 0xFF, (byte + 1) % 256} - {byte}:
            path.write_bytes(good[:position] + bytes([wrong]) + good[position + 1 :])
            try:
                assert read_capture(path) == SMALL, (position, wrong)
            except CaptureError:
                pass


def test_every_truncation_is_refused_with_what_was_expected_and_found(tmp_path: Path) -> None:
    write_capture(tmp_path / "a.capture", SMALL)
    good = (tmp_path / "a.capture").read_bytes()
    for length in range(1, len(good)):
        message = refusal(tmp_path / "bad.capture", good[:length])
        expected = len(good) if length >= len(MAGIC) + 36 else f"at least {len(MAGIC) + 36}"
        assert f"is truncated: {expected} bytes expected, {length} found" in message
    assert "is damaged" in refusal(tmp_path / "bad.capture", good + b"\0")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"hello, I am a text\n", "b'hello, I'"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        (pickle.dumps(SMALL, 5), "a pickle"),
        (gzip.compress(json.dumps(SMALL).encode()), "gzip"),
        (gzip.compress(forge(b"{}")), "unpack it"),
        (json.dumps(SMALL).encode(), "JSON"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"\xef\xbb\xbf" + forge(b"{}"), "b'\\xef"),
        (b"cachescope captures", "b'cachesco'"),
        (b"\n", "b'\\n'"),
    ],
    ids=without_bytes,
)
def test_a_foreign_file_is_refused_as_such(tmp_path: Path, content: bytes, hint: str) -> None:
    message = refusal(tmp_path / "foreign", content)
    assert "is not a cachescope capture: it starts with" in message
    assert hint in message


def test_an_empty_file_is_refused_as_such(tmp_path: Path) -> None:
    assert "is empty" in refusal(tmp_path / "a.capture", b"")


@pytest.mark.parametrize("version", [CAPTURE_VERSION + 1, 0xFFFF])
@pytest.mark.parametrize("length", [None, len(MAGIC) + 2])
def test_a_newer_format_asks_for_an_upgrade_whatever_follows(tmp_path: Path, version: int, length: int | None) -> None:
    message = refusal(tmp_path / "a.capture", forge(b"{}", version=version)[:length])
    assert f"by a newer cachescope (format {version}, this one reads up to {CAPTURE_VERSION}): upgrade" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (forge(b"{}", version=0), "there is no format 0"),
        (forge(b"{}", flags=2), "needs a newer cachescope"),
        (forge(b"[1]"), "not a JSON object"),
        (forge(b"3"), "not a JSON object"),
        (forge(b'{"$int": "0x10"}', flags=1), "not a JSON object"),
        (forge(b""), "is not JSON"),
        (forge(b'{"a": }'), "is not JSON"),
        (forge(b'{"a": NaN}'), "is not JSON"),
        (forge(b'{"a": -Infinity}'), "is not JSON"),
        (forge(b'{"a": "\xff"}'), "is not JSON"),
        (forge('{"a": 1}'.encode("utf-16")), "is not JSON"),
        (forge(b'{"a": ' + b"1" * 5_000 + b"}"), "is not JSON"),
        (forge(b'{"a": {"$int": 3}}', flags=1), "is not JSON"),
        (forge(b'{"a": {"$int": "seven"}}', flags=1), "is not JSON"),
        (forge(b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "nested too deeply"),
        (forge(b"{}", payload_bytes=1), "not the length"),
        (forge(b"{}", payload_bytes=3), "not the length"),
        (forge(b"{}", payload_bytes=0), "not the length"),
        (forge(b"{}", tail=b"more"), "not the length"),
        (forge(b"{}", payload_bytes=MAX_PAYLOAD_BYTES + 1), "bytes of payload, above"),
        (forge(random.Random(1).randbytes(2_000), payload_bytes=2), "bytes for a payload of 2"),
    ],
    ids=without_bytes,
)
def test_a_right_checksum_does_not_excuse_a_wrong_content(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(tmp_path / "a.capture", content)


def test_a_wrong_checksum_is_refused_as_damage(tmp_path: Path) -> None:
    content = bytearray(forge(b'{"a": 1}'))
    content[-1] ^= 1
    assert "is damaged: its checksum" in refusal(tmp_path / "a.capture", bytes(content))


def test_a_right_checksum_around_no_zlib_is_refused(tmp_path: Path) -> None:
    stored = b"not zlib at all"
    fields = struct.pack(">HHQQ", CAPTURE_VERSION, 0, 100, len(stored))
    content = MAGIC + fields + hashlib.blake2b(fields + stored, digest_size=16).digest() + stored
    assert "can't be decompressed" in refusal(tmp_path / "a.capture", content)


@posix_only
def test_a_decompression_bomb_takes_no_more_memory_than_its_header_states(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "bomb.capture"
    path.write_bytes(forge(b" " * (256 << 20), payload_bytes=1 << 20))
    tracemalloc.start()
    try:
        assert "not the length" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_path_that_is_no_readable_file_is_refused_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert "there is no capture" in refusal(tmp_path / "nothing")
    assert "is a folder: name a capture file in it" in refusal(tmp_path)
    assert "can't read the capture" in refusal(tmp_path / "file" / "below")
    assert "can't read the capture" in refusal(tmp_path / "nul\0")
    if sys.platform == "linux":
        assert "File name too long" in refusal(tmp_path / ("n" * 300))


@posix_only
def test_a_pipe_and_a_device_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "device or pipe" in refusal(tmp_path / "pipe")
    assert "device or pipe" in refusal(Path("/dev/zero"))


@posix_only
def test_a_file_of_somebody_else_is_refused_with_who_may_read_it(tmp_path: Path) -> None:
    write_capture(tmp_path / "a.capture", SMALL)
    if os.geteuid() != 0:
        (tmp_path / "a.capture").chmod(0)
    with unprivileged():
        message = refusal(tmp_path / "a.capture")
    assert "no permission to read" in message


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_refusals_leak_no_descriptors(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, tmp_path / "text", tmp_path / "nothing", Path("/dev/zero")):
        for _ in range(3):
            refusal(path)
            if path.exists() and not path.is_file():
                with pytest.raises(CaptureError):
                    write_capture(path, SMALL)
    assert len(os.listdir("/proc/self/fd")) == before


def test_errors_are_of_the_family() -> None:
    assert issubclass(CaptureError, CachescopeError)


# -- the file --------------------------------------------------------------------------------------------------------


def write_refusal(path: Path) -> str:
    with pytest.raises(CaptureError) as caught:
        write_capture(path, SMALL)
    assert str(path) in str(caught.value)
    return str(caught.value)


@posix_only
def test_a_capture_is_for_its_owners_eyes_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a.capture"
    path.touch(mode=0o666)
    for umask in (0o000, 0o022, 0o777):
        former = os.umask(umask)
        try:
            write_capture(path, SMALL)
        finally:
            os.umask(former)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_folders_that_cannot_be_written_to_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    missing = write_refusal(tmp_path / "nothing" / "a.capture")
    assert f"the folder {tmp_path / 'nothing'} does not exist" in missing
    assert "create it" in missing
    assert not (tmp_path / "nothing").exists()
    assert "is not a folder" in write_refusal(tmp_path / "file" / "a.capture")
    assert "add a file's name" in write_refusal(tmp_path)
    assert "choose another path" in write_refusal(tmp_path / "nul\0")
    assert "choose another path" in write_refusal(tmp_path / "surrogate\ud800")
    if sys.platform == "linux":
        assert "choose a shorter name" in write_refusal(tmp_path / ("n" * 300 + ".capture"))
        write_capture(tmp_path / ("n" * 255), SMALL)  # as long as a name may be
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@posix_only
def test_a_folder_of_somebody_else_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with unprivileged():
            assert "writable for this user" in write_refusal(tmp_path / "a.capture")
    finally:
        tmp_path.chmod(0o755)
    assert os.listdir(tmp_path) == []


@posix_only
def test_devices_and_pipes_are_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        assert "device or pipe" in write_refusal(path)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@posix_only
def test_a_link_is_replaced_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    for name, target in (("a.capture", "precious"), ("b.capture", "nothing")):
        (tmp_path / name).symlink_to(tmp_path / target)
        assert round_trip(tmp_path / name, SMALL) == SMALL
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


@posix_only
def test_a_full_disk_leaves_the_former_capture_and_no_other_file(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "a.capture"
    write_capture(path, SMALL)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, former[1]))
    try:
        with pytest.raises(CaptureError, match="free some space"):
            write_capture(path, {"noise": os.urandom(20_000).hex()})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert read_capture(path) == SMALL
    assert os.listdir(tmp_path) == ["a.capture"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failure_at_any_step_leaves_the_former_capture_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "a.capture"
    write_capture(path, SMALL)

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(CaptureError if isinstance(error, OSError) else KeyboardInterrupt):
        write_capture(path, {"other": 1})
    monkeypatch.undo()
    assert read_capture(path) == SMALL
    assert os.listdir(tmp_path) == ["a.capture"]


def test_the_content_is_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append(f"fsync {os.fstat(descriptor).st_size}")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        steps.append("replace")
        assert source.parent == target.parent
        assert source.name.startswith(".")
        assert str(os.getpid()) in source.name
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    n_bytes = write_capture(tmp_path / "a.capture", SMALL)
    assert steps == [f"fsync {n_bytes}", "replace"]


def test_what_a_killed_process_left_is_not_in_the_way_and_reused_in_time(tmp_path: Path) -> None:
    fresh, stale = (tmp_path / f".cachescope-{os.getpid()}-{n}.tmp" for n in (0, 1))
    for path in (fresh, stale):
        path.write_bytes(b"half a capt")
    yesterday = time.time() - 86_400
    os.utime(stale, (yesterday, yesterday))
    write_capture(tmp_path / "a.capture", SMALL)
    assert sorted(os.listdir(tmp_path)) == [fresh.name, "a.capture"]
    assert fresh.read_bytes() == b"half a capt"


def test_threads_that_write_one_capture_leave_one_whole_capture(tmp_path: Path) -> None:
    path = tmp_path / "a.capture"
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(20):
                write_capture(path, {"by": number, "rows": [number] * 3_000})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    payload = read_capture(path)
    assert payload["rows"] == [payload["by"]] * 3_000
    assert os.listdir(tmp_path) == ["a.capture"]


WRITER = """
import random, sys
from cachescope.core.capture import write_capture
n = 0
while True:
    n += 1
    noise = random.Random(n)
    write_capture(sys.argv[1], {"n": n, "rows": [n] * 2_000, "noise": [noise.random() for _ in range(n * 997 % 5_000)]})
    print(n, flush=True)
"""


def start_writer(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SRC)})


def check_writers_payload(payload: dict[str, object]) -> int:
    n = payload["n"]
    assert isinstance(n, int)
    noise = random.Random(n)
    assert payload["rows"] == [n] * 2_000
    assert payload["noise"] == [noise.random() for _ in range(n * 997 % 5_000)]
    return n


@posix_only
def test_a_writer_killed_at_any_moment_leaves_its_last_capture(tmp_path: Path) -> None:
    moments = random.Random(5)
    n_killed = n_killed_amid_a_write = 0
    # On a fast disk few are hit in the middle of a write, and without any this test has shown nothing.
    while n_killed < 24 or n_killed_amid_a_write < 3:
        n_killed += 1
        assert n_killed < 500, "too few processes were killed in the middle of a write"
        path = tmp_path / f"{n_killed}.capture"
        with start_writer(path) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "1\n"
            time.sleep(moments.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
            # What it said to have written is there, or the one that it was killed before telling of.
            told = [1, *map(int, re.findall(r"([0-9]+)\n", writer.stdout.read()))][-1]
        assert check_writers_payload(read_capture(path)) in {told, told + 1}
        n_killed_amid_a_write += (tmp_path / f".cachescope-{writer.pid}-0.tmp").exists()


def test_readers_see_whole_captures_only_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.capture"
    with start_writer(path) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            # Or the writer would wait for us once the pipe is full.
            drain = threading.Thread(target=writer.stdout.read)
            drain.start()
            seen: list[int] = []
            deadline = time.monotonic() + 30
            while len(set(seen)) < 30 and time.monotonic() < deadline:
                seen.append(check_writers_payload(read_capture(path)))
        finally:
            writer.kill()
        drain.join()
    assert len(set(seen)) >= 30
    assert seen == sorted(seen)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("app.py", "cachescope-app.py.42.capture"),
        ("/srv/shop/app.py", "cachescope-app.py.42.capture"),
        (r"C:\shop\app.py", "cachescope-app.py.42.capture"),
        ("shop/", "cachescope-shop.42.capture"),
        ("shop.web", "cachescope-shop.web.42.capture"),
        ("-c", "cachescope-c.42.capture"),
        ("<stdin>", "cachescope-stdin.42.capture"),
        ("", "cachescope-python.42.capture"),
        ("..", "cachescope-python.42.capture"),
        ("a b\n{pid}*?.py", "cachescope-a_b_pid_.py.42.capture"),
        ("größe.py", "cachescope-größe.py.42.capture"),
    ],
)
def test_the_default_name_holds_script_and_pid(script: str, name: str) -> None:
    assert capture_path(None, script=script, pid=42) == Path(name)
    assert capture_path(None, script=script, pid=42, folder="/out", child=True) == Path("/out", name)


@pytest.mark.parametrize("script", ["n" * 1_000, "本" * 1_000, "\ud800" * 1_000])
def test_the_default_name_fits_a_file_system(tmp_path: Path, script: str) -> None:
    path = capture_path(None, script=script, pid=2**22, folder=tmp_path)
    assert round_trip(path, SMALL) == SMALL


@pytest.mark.parametrize(
    ("template", "own", "of_child"),
    [
        ("run.capture", "run.capture", "run.42.capture"),
        ("out/run.capture", "out/run.capture", "out/run.42.capture"),
        ("run", "run", "run.42"),
        (".run", ".run", ".run.42"),
        ("a.b.capture", "a.b.capture", "a.b.42.capture"),
        ("run-{pid}.capture", "run-42.capture", "run-42.capture"),
        ("{pid}/{x}", None, None),
        ("{pid}-{pid}.{x}", "42-42.{x}", "42-42.{x}"),
        ("out/", "out/cachescope-app.py.42.capture", "out/cachescope-app.py.42.capture"),
        ("", None, None),
    ],
)
def test_a_template_is_filled_and_a_childs_pid_inserted_when_asked(
    template: str, own: str | None, of_child: str | None
) -> None:
    for child, expected in ((False, own), (True, of_child)):
        if expected is None:
            with pytest.raises(CaptureError, match="file"):
                capture_path(template, script="app.py", pid=42, child=child)
        else:
            assert capture_path(template, script="app.py", pid=42, child=child) == Path(expected)
            inside = capture_path(template, script="app.py", pid=42, child=child, folder="/data")
            assert inside == Path("/data", expected)


def test_an_absolute_template_and_the_home_folder_ignore_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert capture_path("~/run.capture", script="x", pid=1, folder="/data") == tmp_path / "run.capture"
    assert capture_path(str(tmp_path / "a"), script="x", pid=1, folder="/data") == tmp_path / "a"


NAMES = [
    "run.capture",
    "run.9.capture",
    "run.10.capture",
    "run.x.capture",
    "run.10.html",
    "run-9.capture",
    "run-10.capture",
    "arun.9.capture",
    "run.1234567890123456789012345.capture",
    "cachescope-app.py.7.capture",
    "cachescope-app.py.8.capture",
    "cachescope-app_py.8.capture",
    "cachescope-web.py.8.capture",
    "bare",
    "bare.5",
    "bare.6",
    "9-9.dat",
    "9-8.dat",
    "[run].capture",
    "[run].4.capture",
    ".cachescope-9-0.tmp",
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("run.capture", ["run.9.capture", "run.10.capture"]),
        ("run.9.capture", ["run.capture", "run.10.capture"]),
        ("run.77.capture", ["run.capture", "run.9.capture", "run.10.capture"]),
        ("run-9.capture", []),
        ("run-{pid}.capture", ["run-9.capture", "run-10.capture"]),
        ("{pid}-{pid}.dat", ["9-9.dat"]),
        ("cachescope-app.py.7.capture", ["cachescope-app.py.8.capture"]),
        ("bare", ["bare.5", "bare.6"]),
        ("bare.5", ["bare", "bare.6"]),
        ("[run].capture", ["[run].4.capture"]),
        ("other.capture", []),
    ],
)
def test_siblings_are_the_files_that_differ_in_the_pid_alone(tmp_path: Path, asked: str, found: list[str]) -> None:
    for name in NAMES:
        (tmp_path / name).touch()
    (tmp_path / "run.11.capture").mkdir()
    assert sibling_captures(tmp_path / asked) == [tmp_path / name for name in found]


@pytest.mark.parametrize("template", [None, "run.capture", "run", "a.b.c"])
def test_the_captures_of_parent_and_children_find_each_other(tmp_path: Path, template: str | None) -> None:
    paths = [
        capture_path(template, script="app.py", pid=pid, folder=tmp_path, child=child)
        for pid, child in ((100, False), (101, True), (102, True))
    ]
    for path in paths:
        write_capture(path, SMALL)
    for path in paths:
        assert sibling_captures(path) == [other for other in paths if other != path]


def test_siblings_in_a_folder_that_is_none_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert sibling_captures(tmp_path / "nothing" / "run.1.capture") == []
    assert sibling_captures(tmp_path / "file" / "run.1.capture") == []


@posix_only
def test_siblings_in_a_folder_that_cannot_be_listed_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with unprivileged(), pytest.raises(CaptureError, match="can't look for captures"):
        sibling_captures(tmp_path / "closed" / "run.1.capture")
