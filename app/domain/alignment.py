"""Bring answers that name the same classes in another order into one order."""

from collections.abc import Sequence

from app.domain.errors import ShapeMismatchError

_MOST_NAMED = 5


def class_order(own: Sequence[str], wanted: Sequence[str], *, whose: str = "The model") -> tuple[int, ...]:
    """Return, for every wanted class, its place among the own ones: `answers[:, order]` are in the wanted order.

    Raise ShapeMismatchError, which names what is missing and what is superfluous, unless both are the same set.
    """
    missing, superfluous = ([name for name in one if name not in set(other)] for one, other in _both_ways(own, wanted))
    if missing or superfluous:
        told = [_told(whose, "lacks", missing), _told(whose, "has besides", superfluous)]
        raise ShapeMismatchError(
            " ".join(filter(None, told)), hint="Labels are matched by name, in any order, but all of them."
        )
    if len(own) != len(wanted):
        raise ShapeMismatchError(f"{whose} names a class twice.", hint="Name every class once.")
    places = {name: place for place, name in enumerate(own)}
    return tuple(places[name] for name in wanted)


def same_classes(own: Sequence[str], wanted: Sequence[str]) -> bool:
    """Say whether both are the same set of names, in whatever order."""
    return sorted(own) == sorted(wanted)


def _both_ways(own: Sequence[str], wanted: Sequence[str]) -> tuple[tuple[Sequence[str], Sequence[str]], ...]:
    return (wanted, own), (own, wanted)


def _told(whose: str, verb: str, names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{whose} {verb} {shown}{more}." if names else ""
