"""Write numbers, sizes and times as people read them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

NONE = "\N{EN DASH}"
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as a percentage."""
    return NONE if share is None else f"{100 * share:.{digits}f} %"


def interval(bounds: tuple[float, float] | None, digits: int = 1) -> str:
    """Write the interval of a share as percentages."""
    return "" if bounds is None else f"{100 * bounds[0]:.{digits}f} to {100 * bounds[1]:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with some significant digits, whole numbers with their thousands apart."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def bytes_size(size_bytes: float | None) -> str:
    """Write a size in decimal units (IEC 80000-13 keeps kB for 1,000 bytes)."""
    if size_bytes is None:
        return NONE
    size, unit = float(size_bytes), 0
    while size >= 1000 and unit < len(_BYTE_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_BYTE_UNITS[unit]}" if size >= 100 or unit == 0 else f"{size:.1f} {_BYTE_UNITS[unit]}"


def milliseconds(value: float | None) -> str:
    """Write a time in milliseconds, in microseconds below a tenth of one."""
    if value is None:
        return NONE
    return f"{1000 * value:.0f} µs" if value < 0.1 else f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"


def duration(seconds: float | None) -> str:
    """Write a duration in its two largest units."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(when: datetime | None) -> str:
    """Write a time in UTC to the minute; scripts replace it by that of the reader's place."""
    return NONE if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def elapsed(begun: datetime | None, ended: datetime | None = None) -> str:
    """Write the time between two moments; without an end, until now."""
    return NONE if begun is None else duration(((ended or datetime.now(UTC)) - begun).total_seconds())


def words(name: str) -> str:
    """Write an identifier as words."""
    return name.replace("_", " ")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "interval": interval,
    "number": number,
    "bytes": bytes_size,
    "ms": milliseconds,
    "duration": duration,
    "moment": moment,
    "words": words,
}
