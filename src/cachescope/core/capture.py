r"""The capture file: what one process saw, on disk, as one JSON object.

    b"cachescope capture\n"                                            the magic line
    version u16, flags u16, payload length u64, stored length u64,     big-endian, 36 bytes
    digest (blake2b-16 over the header's fields and the stored bytes)
    zlib-compressed JSON, pure ASCII                                   "stored length" bytes, then the end of the file

Nothing is unpickled, a reader decompresses no more than the header states (and that is at most ``MAX_PAYLOAD_BYTES``),
and a file is only ever replaced whole: whoever reads while we write, or finds what a killed process left, has the
former capture or the new one. The digest finds accidents; it is no signature.

The JSON, and what flag 1 says of it: :mod:`cachescope.core.capture_json`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cachescope.core.capture_json import (
    FLAG_TAGGED,
    MAX_PAYLOAD_BYTES,
    damaged,
    decode_payload,
    encode_payload,
    inflated,
    type_name,
)
from cachescope.core.errors import CaptureError

CAPTURE_VERSION: Final = 1
MAGIC: Final = b"cachescope capture\n"

_FIELDS: Final = struct.Struct(">HHQQ")
_VERSION: Final = struct.Struct(">H")
_DIGEST_BYTES: Final = 16
_HEADER_BYTES: Final = len(MAGIC) + _FIELDS.size + _DIGEST_BYTES

_STALE_SECONDS: Final = 3_600


def write_capture(path: str | os.PathLike[str], payload: Mapping[str, object]) -> int:
    """Replace the capture at *path* by *payload*, whole or not at all.

    Args:
        path: The file. Its folder must exist. What stands there is replaced when it is a file or a link to one (the
            link, not what it points to), and refused when it is a folder, device or pipe.
        payload: JSON types only: dicts with str keys, lists, str, int of any size, finite float, bool, None. Tuples are
            accepted and come back as lists, members of subclasses (``IntEnum``) as the plain type.

    Returns:
        The size of the file in bytes.

    Raises:
        CaptureError: An element can't be stored (the message says which), or the file can't be written (the message
            says what to do). A former capture at *path* is then untouched.
    """
    if not isinstance(payload, Mapping):
        raise CaptureError(f"a capture holds a mapping, not {type_name(payload)}")
    # Encoded in full before any file is touched: an element that can't be stored costs no former capture.
    blocks, flags, payload_bytes = encode_payload(dict(payload))
    stored_bytes = sum(map(len, blocks))
    fields = _FIELDS.pack(CAPTURE_VERSION, flags, payload_bytes, stored_bytes)
    head = MAGIC + fields + _digest(fields, blocks)
    target = _as_path(path)
    try:
        _replace_file(target, [head, *blocks])
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate in the path
        raise CaptureError(f"can't write the capture {target}: {_explain(error, target)}") from error
    return len(head) + stored_bytes


def read_capture(path: str | os.PathLike[str]) -> dict[str, object]:
    """Read back what :func:`write_capture` wrote.

    Raises:
        CaptureError: The file is missing, unreadable, no file, empty, foreign, truncated, damaged, or of a newer
            format: each has its own message.
    """
    source = _as_path(path)
    try:
        with open(source, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CaptureError(f"{source} is not a file but a device or pipe: name a capture file")
            start = file.read(_HEADER_BYTES)
            fields = _checked_fields(source, start, status.st_size)
            # One byte more, to notice a file that still grows.
            stored = file.read(fields.stored_bytes + 1)
    except FileNotFoundError as error:
        raise CaptureError(f"there is no capture {source}: check the path") from error
    except PermissionError as error:
        hint = "captures are readable by the user that wrote them only, so read it as that user or as root"
        if os.path.isdir(source):  # Windows refuses to open a folder in these words
            hint = "it is a folder; name a capture file in it"
        raise CaptureError(f"no permission to read {source}: {hint}") from error
    except IsADirectoryError as error:
        raise CaptureError(f"{source} is a folder: name a capture file in it") from error
    except (OSError, ValueError) as error:
        raise CaptureError(f"can't read the capture {source}: {_reason(error)}") from error

    if len(stored) != fields.stored_bytes:
        raise _wrong_length(source, expected=_HEADER_BYTES + fields.stored_bytes, found=len(start) + len(stored))
    if _digest(start[len(MAGIC) : -_DIGEST_BYTES], [stored]) != start[-_DIGEST_BYTES:]:
        raise damaged(source, "its checksum does not match its content")
    if fields.flags & ~FLAG_TAGGED:  # behind the checksum, so somebody meant them
        raise CaptureError(
            f"{source} needs a newer cachescope (its flags are 0x{fields.flags:04x}): upgrade cachescope here"
        )
    return decode_payload(source, inflated(source, stored, fields.payload_bytes), tagged=fields.flags == FLAG_TAGGED)


def capture_path(
    template: str | None,
    *,
    script: str,
    pid: int,
    folder: str | os.PathLike[str] | None = None,
    child: bool = False,
) -> Path:
    """Name the capture of one process.

    Args:
        template: What the user asked for: a file name or path in which ``{pid}`` stands for the process id; a path
            that ends in a slash is a folder for the default name. None: ``cachescope-<script>.<pid>.capture``.
        script: The program, for the default name; of a path, the last part.
        pid: The process.
        folder: Where a relative name starts; None: the working directory.
        child: Insert the pid before the suffix of a template that does not ask for it (``run.capture`` becomes
            ``run.4242.capture``), so that a child process does not overwrite its parent's capture.

    Raises:
        CaptureError: ``{pid}`` stands in the folder part. A folder for each process would have to be created first, and
            the captures of one run would no longer lie together.
    """
    default_name = f"cachescope-{_file_stem(script)}.{{pid}}.capture"
    if template is None:
        asked = Path(default_name)
    else:
        asked = Path(os.path.expanduser(template))  # no shell does that for an environment variable
        if template.endswith(("/", os.sep)):
            asked /= default_name
    if not asked.name:
        raise CaptureError(f"{template!r} names no capture file: add a file name, such as run.{{pid}}.capture")
    if "{pid}" in str(asked.parent):
        raise CaptureError(f"{template!r} has {{pid}} in a folder's name: put it into the file's name")
    if "{pid}" in asked.name:
        # Not str.format: a user's other braces stay as they are.
        path = asked.with_name(asked.name.replace("{pid}", str(pid)))
    else:
        path = asked.with_name(f"{asked.stem}.{pid}{asked.suffix}") if child else asked
    return path if folder is None else Path(folder) / path


def sibling_captures(path: str | os.PathLike[str]) -> list[Path]:
    """Find the captures that other processes wrote beside *path*, ordered by process id.

    Only names are compared, and only of the forms that :func:`capture_path` makes: ``<stem>.<pid><suffix>`` and, for
    the process that started the others, ``<stem><suffix>``. ``run-1.capture`` and ``run-2.capture`` are therefore two
    runs and not one; for a template with ``{pid}`` elsewhere, give the template itself as *path*. Two runs of one
    script in one folder can't be told apart by name: what the captures say of their run decides.

    Args:
        path: One capture of the run, existing or not; or the run's template, with ``{pid}`` in its name.

    Returns:
        The others, without *path* itself. Empty when the folder does not exist.

    Raises:
        CaptureError: The folder can't be listed.
    """
    target = _as_path(path)
    own_name: str = target.name
    if "{pid}" in own_name:
        before, *rest = map(re.escape, own_name.split("{pid}"))
        pattern = before + "(?P<pid>[0-9]+)" + "(?P=pid)".join(rest)
        parent_name = None
    else:
        numbered = re.fullmatch(r"(?P<stem>.+?)\.[0-9]+(?P<suffix>\.[^.]*)?", own_name, re.DOTALL)
        stem, suffix = (numbered["stem"], numbered["suffix"] or "") if numbered else (target.stem, target.suffix)
        pattern = rf"{re.escape(stem)}\.(?P<pid>[0-9]+){re.escape(suffix)}"
        parent_name = stem + suffix

    found: list[tuple[int, str]] = []
    try:
        with os.scandir(target.parent) as entries:
            for entry in entries:
                if entry.name == own_name or not entry.is_file():
                    continue
                if entry.name == parent_name:
                    found.append((-1, entry.name))
                # A longer number is no pid, and int() would refuse thousands of digits.
                elif (match := re.fullmatch(pattern, entry.name, re.DOTALL)) and len(match["pid"]) <= 20:
                    found.append((int(match["pid"]), entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise CaptureError(f"can't look for captures in {target.parent}: {_reason(error)}") from error
    return [target.with_name(name) for _, name in sorted(found)]


class _Fields(NamedTuple):
    version: int
    flags: int
    payload_bytes: int
    stored_bytes: int


def _checked_fields(source: Path, start: bytes, n_file_bytes: int) -> _Fields:
    """Judge a file by its first bytes and its size, before the rest is read."""
    if not start:
        raise CaptureError(f"{source} is empty: the disk may have been full, or the copy was interrupted")
    if not start.startswith(MAGIC[: len(start)]):
        raise CaptureError(f"{source} is not a cachescope capture: it starts with {start[:8]!r}{_kind_hint(start)}")
    versioned = len(MAGIC) + _VERSION.size
    if len(start) >= versioned:
        # Before all else, because a newer format may have another header.
        (version,) = _VERSION.unpack(start[len(MAGIC) : versioned])
        if version > CAPTURE_VERSION:
            raise CaptureError(
                f"{source} was written by a newer cachescope (format {version}, this one reads up to "
                f"{CAPTURE_VERSION}): upgrade cachescope here"
            )
        if version < 1:
            raise damaged(source, f"there is no format {version}")
    if len(start) < _HEADER_BYTES:
        raise _wrong_length(source, expected=_HEADER_BYTES, found=len(start), at_least="at least ")
    fields = _Fields(*_FIELDS.unpack(start[len(MAGIC) : -_DIGEST_BYTES]))
    if fields.payload_bytes > MAX_PAYLOAD_BYTES:
        raise damaged(source, f"its header states {fields.payload_bytes} bytes of payload, above {MAX_PAYLOAD_BYTES}")
    # zlib never makes more of it than a thousandth; beyond, somebody wants us to read a huge file into memory.
    if fields.stored_bytes > fields.payload_bytes + fields.payload_bytes // 1_000 + 64:
        raise damaged(source, f"its header states {fields.stored_bytes} bytes for a payload of {fields.payload_bytes}")
    if _HEADER_BYTES + fields.stored_bytes != n_file_bytes:
        raise _wrong_length(source, expected=_HEADER_BYTES + fields.stored_bytes, found=n_file_bytes)
    return fields


def _open_at_once(path: str, flags: int) -> int:
    # Without it, opening a pipe that nobody writes to would hang for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _replace_file(target: Path, blocks: Iterable[bytes]) -> None:
    with contextlib.suppress(FileNotFoundError):
        # os.replace() would put a file in the place of /dev/null when root asks for it.
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise CaptureError(f"can't write the capture {target}: it is a device or pipe; choose a file's name")
    descriptor, temporary = _open_temporary(target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)  # exactly, whatever the umask took away
            file.writelines(blocks)
            file.flush()
            # Without it, a power cut may leave the new name on an empty file.
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _open_temporary(folder: Path) -> tuple[int, Path]:
    """Create a file of our own in *folder*.

    Its name needs no random part: each is created exclusively, so threads, and containers that share a folder and a
    pid, get different ones. A killed process leaves one behind; whoever has the pid an hour later reuses the name.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    pid = os.getpid()
    n_taken = 0
    while True:
        temporary = folder / f".cachescope-{pid}-{n_taken}.tmp"
        try:
            return os.open(temporary, flags, 0o600), temporary
        except FileExistsError:
            with contextlib.suppress(OSError):
                if time.time() - temporary.lstat().st_mtime > _STALE_SECONDS:
                    temporary.unlink()
                    continue
            n_taken += 1
            if n_taken >= 1_000:
                raise


def _digest(fields: bytes, blocks: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(fields, digest_size=_DIGEST_BYTES, usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.digest()


def _explain(error: OSError | ValueError, target: Path) -> str:
    """Why a file could not be written, and what to do about it."""
    code = error.errno if isinstance(error, OSError) else None
    folder = target.parent
    if code == errno.ENOENT:
        return f"the folder {folder} does not exist; create it (mkdir -p {folder}) or choose another"
    if code == errno.ENOTDIR:
        return f"{folder} is not a folder; choose another path"
    if code == errno.EISDIR:
        return "it is a folder; add a file's name"
    if code in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{_reason(error)}; make the folder {folder} writable for this user, or choose another"
    if code in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"{_reason(error)}; free some space or choose another folder"
    if code == errno.ENAMETOOLONG:
        return f"{_reason(error)}; choose a shorter name"
    return f"{_reason(error)}; choose another path"


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _wrong_length(source: Path, *, expected: int, found: int, at_least: str = "") -> CaptureError:
    if found < expected:
        return CaptureError(
            f"{source} is truncated: {at_least}{expected} bytes expected, {found} found; copy it again, or use "
            "another capture of the run"
        )
    return damaged(source, f"{expected} bytes expected, {found} found")


def _kind_hint(start: bytes) -> str:
    for prefix, kind in (
        (b"\x1f\x8b", "gzip; unpack it first"),
        (b"\x89PNG", "a PNG image"),
        (b"\x80\x04", "a pickle"),
        (b"\x80\x05", "a pickle"),
        (b"PK\x03\x04", "a zip archive"),
        (b"{", "perhaps a JSON report"),
    ):
        if start.startswith(prefix):
            return f" ({kind})"
    return ""


def _file_stem(script: str) -> str:
    """Turn a program's name into part of a file name: ``/srv/app.py`` is ``app.py``, ``<stdin>`` is ``stdin``."""
    last = re.split(r"[/\\]", script.rstrip("/\\"))[-1]
    stem = re.sub(r"[^\w.-]+", "_", last).strip("._-")
    return stem.encode()[:150].decode(errors="ignore") or "python"  # file systems count bytes, and stop at 255


def _as_path(path: str | os.PathLike[str]) -> Path:
    return Path(os.fsdecode(path))
