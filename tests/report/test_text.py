from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cachescope.report.text import ASCII, UNICODE, bar, glyphs_for, printable, shorten, wrap, wrap_parts

any_text = st.text(st.characters(), max_size=60)  # lone surrogates included


@given(any_text, st.sampled_from(["utf-8", "ascii", "latin-1", "cp437", "no-such-encoding"]))
def test_printable_leaves_nothing_that_steers_a_terminal_or_fails_to_encode(text, encoding):
    shown = printable(text, encoding)
    assert shown.isprintable()
    shown.encode("ascii" if encoding == "no-such-encoding" else encoding)


def test_printable_keeps_what_people_write():
    for text in ("user:{int}:profile", "[red]x[/red]", "Größe", "漢字", "ключ", r"C:\cache"):
        assert printable(text) == text


def test_printable_escapes_like_python():
    assert printable("a\x1b[31m\n\t\r\x00\u202e\u2028\ufeff\ud800") == (r"a\x1b[31m\n\t\r\x00\u202e\u2028\ufeff\ud800")
    assert printable("é", "ascii") == r"\xe9"


@given(any_text.map(printable), st.integers(0, 40))
def test_shorten_fits_and_keeps_both_ends(text, width):
    short = shorten(text, width)
    assert cell_len(short) <= width
    if cell_len(text) <= width:
        assert short == text


def test_shorten_takes_out_the_middle():
    assert shorten("shop.users:UserStore.cache", 13) == "shop.u….cache"
    assert shorten("shop.users:UserStore.cache", 14, "..") == "shop.u...cache"


@given(any_text.map(printable), st.integers(2, 40))
def test_wrap_fits_and_loses_nothing_but_blanks(text, width):
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_wrap_keeps_a_figure_with_its_unit():
    assert wrap("it holds 612 MiB ±2% now", 14) == ["it holds", "612 MiB ±2%", "now"]
    assert wrap("it holds 6 MiB", 12) == ["it holds", "6 MiB"]
    assert wrap("full 100 % of it", 8) == ["full", "100 % of", "it"]


@given(st.lists(any_text.map(printable), max_size=6), st.integers(8, 60))
def test_wrap_parts_fits(parts, width):
    for glyphs in (UNICODE, ASCII):
        assert all(cell_len(line) <= width for line in wrap_parts(parts, width, glyphs))


@given(st.floats(-1, 2), st.integers(1, 12))
def test_bar_fits_and_shows_whatever_is_there(part, width):
    for glyphs in (UNICODE, ASCII):
        drawn = bar(part, width, glyphs)
        assert cell_len(drawn) <= width
        assert bool(drawn) == (part > 0)


def test_glyphs_are_ascii_where_the_encoding_has_no_others():
    assert glyphs_for("utf-8") is UNICODE
    assert glyphs_for("UTF-8") is UNICODE
    for encoding in ("ascii", "latin-1", "cp1252", "no-such-encoding"):
        assert glyphs_for(encoding) is ASCII
