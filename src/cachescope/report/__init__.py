"""What a person sees of a :class:`~cachescope.core.results.Report`, and what a program reads.

Imports rich, so nothing that runs inside a profiled process may import this package before there is something to show.
"""

from cachescope.report.as_json import report_to_json
from cachescope.report.findings import Finding, FindingKind, findings
from cachescope.report.one_cache import only
from cachescope.report.terminal import print_report, report_to_text
from cachescope.report.view import SORT_KEYS

__all__ = [
    "SORT_KEYS",
    "Finding",
    "FindingKind",
    "findings",
    "only",
    "print_report",
    "report_to_json",
    "report_to_text",
]
