"""MLflow's filters and orders: `name LIKE 'digits%' AND tag.team = 'vision'`, `last_updated_timestamp DESC`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from app.db.mlflow import Condition, Operator, Order
from app.domain.request_errors import InvalidFilterError

LONGEST_FILTER = 5_000
MOST_CONDITIONS = 50
MOST_TERMS = 10
_TEXT_OPERATORS = ("=", "!=", "LIKE", "ILIKE")
_NUMBER_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_NUMBERS = frozenset({"version_number"})
_LARGEST_NUMBER = 2**31 - 1
_KEY = re.compile(r"""\s*(?:(attributes?|tags?)\s*\.\s*)?(?:`([^`]+)`|"([^"]+)"|([\w.\-]+))""")
_OPERATOR = re.compile(r"\s*(<=|>=|!=|=|<|>|(?:NOT\s+)?IN(?=[\s(])|I?LIKE\b)", re.IGNORECASE)
_TEXT = re.compile(r"""\s*(?:'((?:[^']|'')*)'|"([^"]*)")""")
_NUMBER = re.compile(r"\s*(\d+)\b")
_SIGN = re.compile(r"\s*([(),])")
_AND = re.compile(r"\s*AND\b", re.IGNORECASE)
_ORDER = re.compile(r"\s*(?:attributes?\.)?`?(\w+)`?(?:\s+(ASC|DESC))?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Searchable:
    """Name the attributes that a kind of search knows: for filters, for lists, and for orders."""

    filters: tuple[str, ...]
    lists: tuple[str, ...]
    orders: tuple[str, ...]


MODELS = Searchable(filters=("name",), lists=("name",), orders=("name", "creation_timestamp", "last_updated_timestamp"))
VERSIONS = Searchable(
    filters=("name", "version_number", "run_id", "source_path"),
    lists=("name", "run_id"),
    orders=("name", "version_number", "creation_timestamp", "last_updated_timestamp"),
)


def parse_filter(text: str, known: Searchable) -> list[Condition]:
    """Read conditions joined by AND; raise InvalidFilterError that names the place."""
    if len(text) > LONGEST_FILTER:
        raise InvalidFilterError(
            f"The filter is longer than {LONGEST_FILTER} characters.", hint="Ask for less at once."
        )
    if not text.strip():
        return []
    scanner, found = _Scanner(text), list[Condition]()
    while not found or scanner.take(_AND):
        if len(found) == MOST_CONDITIONS:
            raise InvalidFilterError(f"The filter has more than {MOST_CONDITIONS} conditions.", hint="Ask for less.")
        found.append(_condition(scanner, known))
    scanner.expect_end()
    return found


def parse_order(terms: Sequence[str], known: Searchable) -> list[Order]:
    """Read terms as `name` or `last_updated_timestamp DESC`; raise InvalidFilterError."""
    if len(terms) > MOST_TERMS:
        raise InvalidFilterError(f"order_by has more than {MOST_TERMS} terms.", hint="Name each attribute once.")
    return [_order(term, known) for term in terms]


def _order(term: str, known: Searchable) -> Order:
    found = _ORDER.fullmatch(term[:200])
    if found is None or found[1] not in known.orders:
        raise InvalidFilterError(
            f"Invalid order_by clause {term[:80]!r}.", hint=f"Order by {', '.join(known.orders)}, then ASC or DESC."
        )
    return Order(found[1], descending=(found[2] or "").upper() == "DESC")


class _Scanner:
    """Read a filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Step over the pattern, if it comes next."""
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def expect(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        """Step over the pattern; raise InvalidFilterError when something else comes next."""
        found = self.take(pattern)
        if found is None:
            raise self.refusal(f"expected {expected}")
        return found

    def expect_end(self) -> None:
        """Raise InvalidFilterError when something is left."""
        if self._text[self._at :].strip():
            raise self.refusal("expected AND or the end")

    def refusal(self, reason: str) -> InvalidFilterError:
        """Return the error that names the place."""
        rest = self._text[self._at :].strip()[:40]
        return InvalidFilterError(
            f"Invalid filter at character {self._at + 1}, {rest!r}: {reason}.",
            hint="Write conditions like `name = 'digits'` or `tag.team LIKE 'v%'`, joined by AND.",
        )


def _condition(scanner: _Scanner, known: Searchable) -> Condition:
    entity, *names = scanner.expect(_KEY, "an attribute or a tag").groups()
    key = next(name for name in names if name is not None)
    on_tag = (entity or "").startswith("tag")
    if not on_tag and key not in known.filters:
        raise scanner.refusal(f"there is no attribute {key[:60]!r}; there are {', '.join(known.filters)}")
    operator = _operator(scanner)
    is_number = not on_tag and key in _NUMBERS
    if operator in ("IN", "NOT IN"):
        if on_tag or key not in known.lists:
            raise scanner.refusal(f"{operator} works on {' and '.join(known.lists)}")
        return Condition(on_tag, key, operator, _texts(scanner))
    if operator not in (_NUMBER_OPERATORS if is_number else _TEXT_OPERATORS):
        raise scanner.refusal(f"{key[:60]!r} cannot be compared by {operator}")
    return Condition(on_tag, key, operator, _number(scanner) if is_number else _text(scanner))


def _operator(scanner: _Scanner) -> Operator:
    found = scanner.expect(_OPERATOR, "one of =, !=, LIKE, ILIKE, IN")
    return cast("Operator", " ".join(found[1].upper().split()))


def _text(scanner: _Scanner) -> str:
    single, double = scanner.expect(_TEXT, "a value in quotes").groups()
    return single.replace("''", "'") if single is not None else double


def _texts(scanner: _Scanner) -> tuple[str, ...]:
    scanner.expect(_SIGN, "a list in parentheses")
    values = [_text(scanner)]
    while (sign := scanner.expect(_SIGN, "`,` or `)`"))[1] == ",":
        values.append(_text(scanner))
    if sign[1] != ")":
        raise scanner.refusal("expected `)`")
    return tuple(values)


def _number(scanner: _Scanner) -> int:
    plain = scanner.take(_NUMBER)
    digits = plain[1] if plain else _text(scanner)
    if not re.fullmatch("[0-9]{1,10}", digits) or int(digits) > _LARGEST_NUMBER:
        raise scanner.refusal(f"{digits[:20]!r} is no number of a version")
    return int(digits)
