"""The request traces in ``benchmarks/traces``, as plain lists."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import numpy

FOLDER = Path(__file__).with_name("traces")
NAMES = ("adapt_size", "c2k_web12", "py_sympy", "c2k_orm_night")
"""Smallest first."""


def column(trace: str, name: str = "key") -> list[int]:
    """One column of a trace: a figure for each request, in their order.

    Raises:
        KeyError: The trace has no such column; the README beside the files says what may be there.
    """
    with lzma.open(FOLDER / f"{trace}.npz.xz") as file, numpy.load(io.BytesIO(file.read())) as columns:
        values: list[int] = columns[name].tolist()
    return values
