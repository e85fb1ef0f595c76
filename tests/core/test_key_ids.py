"""Names of keys outside of the process: the same in all processes of a run, of no use to anybody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cachescope.core import key_ids
from cachescope.core.key_ids import SECRET_VARIABLE, key_id, make_secret, share_secret


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has no secret yet."""
    monkeypatch.setattr(key_ids, "_secret", b"")
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    return monkeypatch


KEYS = ["a", "", b"a", 1, -1, 10**5_000, ("a", 1), (), ("a", (10**5_000, None)), 1.5, None, "\ud800", ("\ud800",)]


def test_keys_have_names_of_their_own():
    """Text, bytes, numbers and tuples, of any size; a text and its bytes are two keys."""
    names = [key_id(key) for key in KEYS]
    assert len(set(names)) == len(KEYS)
    assert all(len(name) == 12 and int(name, 16) >= 0 for name in names)
    assert [key_id(key) for key in KEYS] == names


def test_each_run_has_names_of_its_own(fresh):
    """Nobody can try keys out on a capture."""
    one = key_id("user:1")
    fresh.setattr(key_ids, "_secret", b"")
    assert key_id("user:1") != one


@pytest.mark.parametrize("bad", ["no hex", "", "0", "zz", "é"])
def test_a_secret_that_is_none_is_made_anew(fresh, bad):
    """An environment that somebody has spoiled is no reason to fail."""
    fresh.setenv(SECRET_VARIABLE, bad)
    assert len(key_id("a")) == 12
    assert len(key_ids._secret) == 16


def test_a_secret_that_is_too_long_is_cut(fresh):
    """To what the hash can take."""
    fresh.setenv(SECRET_VARIABLE, "ab" * 500)
    assert len(key_id("a")) == 12
    assert key_ids._secret == b"\xab" * 64


SCRIPT = "from cachescope.core.key_ids import key_id; print(key_id('user:1'))"


def test_a_child_that_is_given_the_secret_has_the_same_names(fresh):
    """And one that is not has others; what the environment has already stays."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop(SECRET_VARIABLE, None)
    shared = dict(environment)
    share_secret(shared)
    before = dict(shared)
    share_secret(shared)
    assert shared == before
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True
        ).stdout.strip()
        for env in (shared, environment)
    ]
    assert outputs[0] == key_id("user:1") != outputs[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_the_same_names(fresh):
    """When the secret was made before."""
    make_secret()
    secret = key_ids._secret
    make_secret()
    assert key_ids._secret == secret != b""
