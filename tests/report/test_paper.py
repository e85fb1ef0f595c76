"""Whatever the width, the encoding and the names: every line fits and is clean."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from cachescope.core.results import EventRate, Lifetime, Share, TrendVerdict
from cachescope.report import print_report, report_to_text
from report.analyses import (
    USERS,
    distribution,
    hot_key,
    latency,
    lives,
    operation,
    performance,
    pressure,
    snapshot,
    towards_the_container,
    trend,
)
from report.printing import SGR, WIDTHS, Stream, assert_calm, crowd, printed
from report.reports import MIB, cache, event, hotspot, leak, process, report, shop, value_type
from report.shops import full_shop


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("options", [{}, {"verbose": True}, {"cache": USERS}, {"cache": USERS, "verbose": True}])
def test_every_line_fits(width, options):
    assert_calm(report_to_text(shop(), width=width, **options), width)
    assert_calm(report_to_text(full_shop(), width=width, **options), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_forty_caches_fit(width):
    assert_calm(report_to_text(crowd(), width=width, top=40), width)


def test_narrowest_paper_is_forty_cells():
    assert_calm(report_to_text(shop(), width=10), 40)


names = st.one_of(
    st.text(st.characters(), max_size=120),
    st.sampled_from(
        ["[red]x[/red]", "[link=http://x]", "\x1b]0;title\x07", "a\nb", "\u202egnp.exe", "漢字" * 40, ":smile:", ""]
    ),
)


def hostile(name, text):
    own = cache(
        name,
        kind=text,
        where=text,
        current_memory_bytes_std_error=MIB,
        sampling_rate=0.5,
        notes=(text, name),
        value_types=(value_type(text, live_bytes_std_error=2e9),),
        events=(event(text),),
        instances_total=12,
        own_size=12.5,
    )
    return report(
        own,
        leak(text + "2"),
        patterns=(hotspot(name, text, live_bytes_std_error=1e9), hotspot(name, None)),
        sites=(hotspot(name, None, site=text, stack_trace=(text, name)), hotspot(name, text, site=f"{text}:12 {name}")),
        keys=(hot_key(text, name, pattern=text), hot_key("", name, key=text)),
        origins=(hotspot(name, None, site=text, built_at=f"{name}:1 {text}", recurrence=text, churned_bytes=1),),
        allocation_patterns=(
            lives(
                name,
                events=(EventRate(event=text, count=1, size_bytes=1, count_per_s=1e-9, bytes_per_s=1e30),),
                lifetimes=(Lifetime(cause=text, age_seconds=distribution(1e9)),),
                by_thread=(
                    Share(label=text, count=1, size_bytes=1, share=0.5),
                    Share(label=name, count=1, size_bytes=1, share=0.5),
                ),
            ),
        ),
        performance=(performance(name, operations=(latency(text, name, 1e-12), latency("load", "ok", 1e9))),),
        operations=(operation(text, name, errors=((text, 1), (name, 2))),),
        trends=(
            towards_the_container(limit=text or "x", reason=name),
            towards_the_container(cache_name=name, limit=text, reason=text),
            trend(name, TrendVerdict.UNKNOWN, reason=text),
        ),
        snapshots=(snapshot(container_source=text, notes=(text,)),),
        pressure=(
            pressure("critical", 3.0, scope=text or "x"),
            pressure("critical", 3.0, scope="cache", cache_name=name),
        ),
        processes=(
            process(
                command=text,
                python=text,
                level=text,
                exit_note=name,
                faults={text: 1},
                collects=(text, name),
                tracemalloc_bytes=1,
            ),
        ),
        notes=(text,),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names, names, st.sampled_from(WIDTHS), st.booleans())
def test_no_name_breaks_a_line_or_steers_the_terminal(name, text, width, alone):
    result = hostile(name, text)
    plain = printed(result, width=width, verbose=True, cache=name if alone else None)
    assert_calm(plain, width)
    plain.encode("utf-8")
    colored = printed(result, width=width, color=True, verbose=True, cache=name if alone else None)
    assert SGR.sub("", colored) == plain


@settings(max_examples=20, deadline=None)
@given(names, names)
def test_ascii_stands_in_where_the_encoding_has_no_more(name, text):
    plain = printed(hostile(name, text), Stream("ascii"), width=80, verbose=True)
    assert plain.isascii()
    assert_calm(plain, 80)


def test_markup_in_names_is_text():
    text = printed(report(cache("[bold red]x[/]"), cache("[/]")), Stream(terminal=True), width=80, color=True)
    assert "[bold red]x[/]" in text
    assert "[/]" in text


def test_no_terminal_no_colour():
    assert "\x1b" not in printed(shop())


def test_terminal_has_colour(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert SGR.search(printed(shop(), Stream(terminal=True)))


@pytest.mark.parametrize(
    ("environment", "terminal", "colored"),
    [
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": ""}, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_environment_decides_about_colour(monkeypatch, environment, terminal, colored):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert bool(SGR.search(printed(shop(), Stream(terminal=terminal)))) == colored


def test_argument_overrules_the_environment(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert SGR.search(printed(shop(), color=True))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not SGR.search(printed(shop(), color=False))


def test_width_without_a_terminal_is_eighty_or_columns(monkeypatch):
    assert max(map(cell_len, printed(shop()).splitlines())) <= 80
    monkeypatch.setenv("COLUMNS", "120")
    assert 80 < max(map(cell_len, printed(shop()).splitlines())) <= 120
    monkeypatch.setenv("COLUMNS", "wide")
    assert max(map(cell_len, printed(shop()).splitlines())) <= 80


def test_a_console_of_the_callers_decides_itself():
    stream = Stream()
    print_report(shop(), console=Console(file=stream, width=60))
    assert_calm(stream.getvalue(), 60)


def test_standard_output_is_the_default(capsys):
    print_report(report(cache()))
    assert "Which cache holds the memory?" in capsys.readouterr().out
