"""Printing a report onto a stream that says what it can do, and what every printed report must keep to."""

import io
import re

from rich.cells import cell_len

from cachescope.report import print_report
from report.reports import MIB, cache, report

WIDTHS = (40, 60, 80, 120, 200)
SGR = re.compile(r"\x1b\[[0-9;]*m")


class Stream(io.StringIO):
    """A stream that says what it can do."""

    def __init__(self, encoding="utf-8", terminal=False):
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self._terminal


def printed(result, stream=None, **options):
    stream = stream or Stream()
    print_report(result, file=stream, **options)
    return stream.getvalue()


def assert_calm(text, width):
    """Every line fits and is clean."""
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.isprintable(), ascii(line)
        assert cell_len(line) <= width, line
        assert line == line.rstrip()


def crowd(n=40):
    """Many caches."""
    return report(*(cache(f"pkg.mod{i}:Thing{i}.cache", current_memory_bytes=i * MIB, hits=i) for i in range(n)))
