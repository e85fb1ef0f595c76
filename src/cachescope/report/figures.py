"""Figures as people read them: bytes, counts, ratios, rates, times, and how sure we are of them.

Bytes are IEC units throughout (1 KiB = 1024 B), because that is what limits, containers and operating systems
count in, and "MB" would leave the reader guessing. Three digits are enough to act on: ``1.23 MiB``, ``612 MiB``.
What is unknown, infinite or not a number is a dash; no report ever says ``nan``.
"""

from __future__ import annotations

import math

UNKNOWN = "-"
_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_COUNT_UNITS = ("M", "G", "T", "P", "E")
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def is_known(value: float | None) -> bool:
    """Tell whether there is a finite number to show."""
    return value is not None and math.isfinite(value)


def byte_size(size: float | None) -> str:
    """Bytes in IEC units, three digits.

    >>> byte_size(0), byte_size(1000), byte_size(1_290_000), byte_size(-2048)
    ('0 B', '1000 B', '1.23 MiB', '-2.00 KiB')
    """
    if size is None or not math.isfinite(size):
        return UNKNOWN
    sign = "-" if size < 0 else ""
    size = abs(size)
    if size < 1023.5:
        return f"{sign}{size:.0f} B" if round(size) else "0 B"
    unit = 0
    while size >= 1023.5 and unit < len(_BYTE_UNITS) - 1:  # 1023.5 would be printed as 1024 of the smaller unit
        size /= 1024
        unit += 1
    return f"{sign}{_three_digits(size)} {_BYTE_UNITS[unit]}"


def signed_byte_size(size: float | None) -> str:
    """Bytes of a change: ``+1.00 KiB``, ``-1.00 KiB``, ``0 B``."""
    return f"+{byte_size(size)}" if size is not None and math.isfinite(size) and size >= 0.5 else byte_size(size)


def count(number: float | None) -> str:
    """A count, in full below a million.

    >>> count(0), count(12_345), count(1_234_567), count(2.5)
    ('0', '12,345', '1.2M', '2.5')
    """
    if number is None or not math.isfinite(number):
        return UNKNOWN
    if abs(number) < 999_999.5:
        whole = number == int(number) or abs(number) >= 1_000
        return f"{number:,.0f}" if whole else f"{number:.1f}"
    number /= 1e6
    unit = 0
    while abs(number) >= 999.5 and unit < len(_COUNT_UNITS) - 1:
        number /= 1_000
        unit += 1
    digits = 0 if abs(number) >= 99.95 else 1
    return f"{number:,.{digits}f}{_COUNT_UNITS[unit]}"


def ratio(value: float | None) -> str:
    """A ratio as a percentage to the tenth; only exact ends read ``0 %`` and ``100 %``.

    >>> ratio(0.943), ratio(0), ratio(1), ratio(0.00001), ratio(0.99999), ratio(None)
    ('94.3 %', '0 %', '100 %', '<0.1 %', '>99.9 %', '-')
    """
    if value is None or not math.isfinite(value * 100):
        return UNKNOWN
    if value in {0, 1}:
        return f"{value:.0%}".replace("%", " %")
    if 0 < value < 0.0005:
        return "<0.1 %"
    if 0.9995 <= value < 1:
        return ">99.9 %"
    return f"{value * 100:.1f} %"


def share(value: float | None) -> str:
    """A part of a whole as a whole percentage.

    >>> share(0.514), share(0.001), share(0), share(1)
    ('51 %', '<1 %', '0 %', '100 %')
    """
    if value is None or not math.isfinite(value * 100):
        return UNKNOWN
    if 0 < value < 0.005:
        return "<1 %"
    return f"{value * 100:.0f} %"


def rate(per_second: float | None) -> str:
    """A rate, without its unit: a column's heading gives it.

    >>> rate(0), rate(0.0001), rate(0.25), rate(12.34), rate(45_678)
    ('0', '<0.01', '0.25', '12.3', '45,678')
    """
    if per_second is None or not math.isfinite(per_second):
        return UNKNOWN
    if per_second == 0:
        return "0"
    if 0 < per_second < 0.005:
        return "<0.01"
    if per_second < 9.995:
        return f"{per_second:.2f}"
    if per_second < 99.95:
        return f"{per_second:.1f}"
    return count(round(per_second))


def per(amount: float | None, seconds: float | None) -> float | None:
    """*amount* for each of *seconds*; None when no time has passed."""
    if amount is None or seconds is None or not is_known(amount) or not is_known(seconds) or seconds <= 0:
        return None
    return amount / seconds


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units.

    >>> duration(0.0421), duration(12.3), duration(724), duration(11_520), duration(190_000)
    ('42 ms', '12.3 s', '12 min 4 s', '3 h 12 min', '2 d 4 h')
    """
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    seconds = max(seconds, 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, smaller, smaller_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size:,} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"  # pragma: no cover - 59.95 s and more are at least one minute


def short_time(seconds: float | None, micro: str = "µs") -> str:
    """A length of time that may be very short, three digits below a minute.

    >>> short_time(4.1e-07), short_time(0.0000123), short_time(0.0421), short_time(3.2), short_time(724)
    ('410 ns', '12.3 µs', '42.1 ms', '3.20 s', '12 min 4 s')
    """
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds <= 0:
        return "0 s"
    for scale, name in ((1e9, "ns"), (1e6, micro), (1e3, "ms")):
        if seconds * scale < 999.5:
            return f"{_three_digits(seconds * scale)} {name}" if seconds * scale >= 0.9995 else f"<1 {name}"
    return f"{_three_digits(seconds)} s" if seconds < 59.95 else duration(seconds)


def rough_duration(seconds: float | None) -> str:
    """A length of time in its largest unit, two digits, for what is an estimate anyway.

    >>> (
    ...     rough_duration(0.0421),
    ...     rough_duration(16.8),
    ...     rough_duration(516),
    ...     rough_duration(12_400),
    ...     rough_duration(190_000),
    ... )
    ('42 ms', '17 s', '8.6 min', '3.4 h', '2.2 d')
    """
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    seconds = max(seconds, 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1_000:.0f} ms"
    for size, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        number = seconds / size
        if number >= 0.995 or size == 1:
            return f"{number:.1f} {name}" if number < 9.95 else f"{number:,.0f} {name}"
    return UNKNOWN  # pragma: no cover - a second is the smallest unit


def slope_unit(bytes_per_s: float) -> tuple[int, str]:
    """The unit of time, in seconds and by name, in which a slope is easily read: at least 64 KiB, if not by the day."""
    for seconds, name in ((_MINUTE, "min"), (_HOUR, "h")):
        if abs(bytes_per_s) * seconds >= 1 << 16:
            return seconds, name
    return _DAY, "d"


def slope(bytes_per_s: float | None) -> str:
    """A slope by the minute, the hour or the day.

    >>> slope(910_000), slope(-120), slope(0.5), slope(None)
    ('+52.1 MiB/min', '-422 KiB/h', '+42.2 KiB/d', '-')
    """
    if bytes_per_s is None or not math.isfinite(bytes_per_s):
        return UNKNOWN
    seconds, name = slope_unit(bytes_per_s)
    return f"{signed_byte_size(bytes_per_s * seconds)}/{name}"


def slope_interval(low: float | None, high: float | None, slope_bytes_per_s: float | None) -> str:
    """The ends of a slope's interval, by the same unit of time as the slope itself; empty where they are not known.

    >>> slope_interval(880_000, 940_000, 910_000)
    '+50.4 to +53.8 MiB'
    """
    if low is None or high is None or slope_bytes_per_s is None:
        return ""
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(slope_bytes_per_s)):
        return ""
    seconds, _ = slope_unit(slope_bytes_per_s)
    first, last = signed_byte_size(low * seconds), signed_byte_size(high * seconds)
    number, _, unit = first.partition(" ")
    return f"{number} to {last}" if last.endswith(f" {unit}") else f"{first} to {last}"


def uncertain_share(value: float | None, std_error: float, plus_minus: str = "±") -> str:
    """A part of a whole with one standard error, both in percentage points.

    >>> uncertain_share(0.624, 0.02), uncertain_share(0.624, 0.0012), uncertain_share(0.624, 0)
    ('62 ±2 %', '62.4 ±0.1 %', '62 %')
    """
    if value is None or not math.isfinite(value * 100):
        return UNKNOWN
    if not math.isfinite(std_error * 100) or std_error <= 0:
        return share(value)
    digits = 0 if std_error >= 0.005 else 1
    return f"{value * 100:.{digits}f} {plus_minus}{max(std_error * 100, 0.1):.{digits}f} %"


def spread(value: float | None, std_error: float | None, plus_minus: str = "±") -> str:
    """How far off an estimate in bytes may be, in one standard error; empty when the figure is exact.

    >>> spread(1000, 30), spread(1000, 0), spread(0, 2048), spread(1000, 1)
    ('±3%', '', '±2.00 KiB', '±<1%')
    """
    if value is None or std_error is None or not is_known(value) or not is_known(std_error) or std_error <= 0:
        return ""
    if abs(value) < 1 or std_error > abs(value):
        return f"{plus_minus}{byte_size(std_error)}"
    relative = std_error / abs(value)
    return f"{plus_minus}<1%" if relative < 0.005 else f"{plus_minus}{relative * 100:.0f}%"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """A count and its noun: ``1 entry``, ``2 entries``."""
    return f"{count(number)} {noun if number == 1 else many or noun + 's'}"


def _three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
