"""From numbers to places: scales with round ticks, and numbers as people write them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_LARGEST = 1e60
# Beyond this ratio of the largest to the smallest, equal steps would crowd most points at one end.
WIDE = 30.0


@dataclass(frozen=True)
class Scale:
    """Map numbers from `low` to `high` onto a line from `start` to `end`; what lies outside comes to its ends."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a number."""
        low, high, value = self._along(self.low), self._along(self.high), self._along(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def _along(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.logarithmic else value


def finite(values: Iterable[float | None]) -> list[float]:
    """Return the numbers among values, those beyond all measure cut off."""
    return [
        min(max(float(value), -_LARGEST), _LARGEST) for value in values if value is not None and math.isfinite(value)
    ]


def nice_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2 or 5 times a power of ten that divides a span into at most so many steps."""
    rough = span / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1.0, 2.0, 5.0) if factor * power >= rough * (1 - 1e-9)), 10.0 * power)


def nice_ticks(low: float, high: float, *, most: int = 6) -> tuple[float, ...]:
    """Return round numbers, equally far apart, from at or below `low` to at or above `high` (Heckbert 1990).

    >>> nice_ticks(0.12, 0.93)
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """
    low, high = _spread(low, high)
    step = nice_step(high - low, most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    return tuple(round(place * step, digits) if digits < 300 else place * step for place in range(first, last + 1))


def _spread(low: float, high: float) -> tuple[float, float]:
    """Return ends that floating-point numbers can still tell apart."""
    smallest = max(abs(low), abs(high), 1e-9) * 1e-6
    if high - low >= smallest:
        return low, high
    around = abs(low) * 0.05 or 0.5
    return low - around, high + around


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return 1, 2 and 5 times powers of ten, of few powers, else powers alone, that cover the numbers."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    powers = [10.0**place for place in range(first, max(last, first + 1) + 1)]
    if len(powers) <= 4:
        every = sorted(factor * power for power in powers for factor in (1.0, 2.0, 5.0))
        below = [tick for tick in every if tick <= low * (1 + 1e-9)]
        above = [tick for tick in every if tick >= high * (1 - 1e-9)]
        return tuple(tick for tick in every if below[-1] <= tick <= above[0])
    stride = math.ceil((len(powers) - 1) / 6)
    kept = powers[::stride]
    return tuple(kept if kept[-1] >= high else [*kept, kept[-1] * 10.0**stride])


def linear(values: Iterable[float | None], start: float, end: float, *, most: int = 6) -> Scale:
    """Return a scale with round ends around the values."""
    found = finite(values) or [0.0, 1.0]
    ticks = nice_ticks(min(found), max(found), most=most)
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def adaptive(values: Iterable[float | None], start: float, end: float) -> Scale:
    """Return a logarithmic scale for positive values of a wide range, else a linear one."""
    found = finite(values)
    if not found or min(found) <= 1e-30 or max(found) / min(found) < WIDE:
        return linear(found, start, end)
    ticks = log_ticks(min(found), max(found))
    return Scale(ticks[0], ticks[-1], start, end, ticks, logarithmic=True)


def short(value: float | None, unit: str = "") -> str:
    """Write a number with three digits and an SI prefix.

    >>> short(1234567), short(0.00123), short(83_500, "B"), short(None)
    ('1.23M', '0.00123', '83.5 kB', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    for size, prefix in _PREFIXES:
        if abs(value) >= size * 0.9995:
            return f"{_digits(value / size)}{' ' if unit else ''}{prefix}{unit}"
    return f"{_digits(value)} {unit}" if unit else _digits(value)


def _digits(value: float) -> str:
    return f"{value + 0.0:.3g}" if abs(value) < 1000 else f"{value:.2e}"


def percent(value: float | None, *, signed: bool = False) -> str:
    """Write a share as per cent.

    >>> percent(0.9512), percent(-0.0104, signed=True)
    ('95.1 %', '-1.0 %')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"


def tick_words(ticks: Sequence[float], *, unit: str = "") -> list[str]:
    """Write ticks with as many decimals as tell them apart."""
    written = [short(tick, unit) for tick in ticks]
    if len(set(written)) == len(written):
        return written
    return [f"{tick:.6g}{' ' if unit else ''}{unit}" for tick in ticks]


def counted(count: int, noun: str) -> str:
    """Write a count with its noun.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
