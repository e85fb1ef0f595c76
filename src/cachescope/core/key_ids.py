"""What stands for a key outside of the process: a keyed hash, the same in all processes of a run.

The secret is made anew for each run and is in no capture, so nobody who reads one can try keys out. Children get it through
the environment; it is of no use to anybody who can't read that already.
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b
from typing import Final

SECRET_VARIABLE: Final = "CACHESCOPE_KEY_SECRET"
_DIGEST_BYTES: Final = 6
_LARGEST_DECIMAL_BITS: Final = 1_024
_secret = b""


def _the_secret() -> bytes:
    global _secret
    if not _secret:
        given = os.environ.get(SECRET_VARIABLE, "")
        try:
            _secret = bytes.fromhex(given)[:64]
        except ValueError:
            _secret = b""
        _secret = _secret or secrets.token_bytes(16)
    return _secret


def make_secret() -> None:
    """Make the secret now, so that forked children have the same."""
    _the_secret()


def share_secret(environment: dict[str, str]) -> None:
    """Hand the secret to a child that is started with *environment*."""
    environment.setdefault(SECRET_VARIABLE, _the_secret().hex())


def _text(key: object) -> str:
    """Its ``repr``; large ints in hexadecimal, for the interpreter refuses to write more than 4,300 digits."""
    if type(key) is tuple:
        return f"({','.join(map(_text, key))})"
    return hex(key) if type(key) is int and key.bit_length() > _LARGEST_DECIMAL_BITS else repr(key)


def key_id(key: object) -> str:
    """Twelve hexadecimal digits for a key that is text, bytes, a number, or a tuple of those."""
    if type(key) is str:
        content = b"s" + key.encode("utf-8", "surrogatepass")
    elif type(key) is bytes:
        content = b"b" + key
    else:
        content = b"r" + _text(key).encode("utf-8", "surrogatepass")
    return blake2b(content, digest_size=_DIGEST_BYTES, key=_the_secret()).hexdigest()
