"""Which members of a soup are averaged: all, or those that do not make the mean worse."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Taste = Callable[[Sequence[int]], float]


@dataclass(frozen=True)
class Choice:
    """Say whether a member is in the mean and why, and what the mean scores with it and without."""

    taken: bool
    why: str
    score_with: float | None = None
    score_without: float | None = None


def take_all(members: int) -> list[Choice]:
    """Return the choice of every member: all are in."""
    return [Choice(taken=True, why="the recipe takes all")] * members


def take_greedily(members: int, taste: Taste) -> list[Choice]:
    """Return the choice of every member: from the best on, each joins that does not lower the score of the mean.

    `taste` scores the mean of the members at some places, more is better; of equal members the first one comes first
    (Wortsman et al. 2022, recipe 1). What is taken scores no less than the best member alone.
    """
    alone = [taste([place]) for place in range(members)]
    first, *others = sorted(range(members), key=lambda place: (-alone[place], place))
    choices = {first: Choice(taken=True, why="the best member", score_with=alone[first])}
    taken, score = [first], alone[first]
    for place in others:
        found = taste(sorted([*taken, place]))
        joins = found >= score
        why = "the mean is no worse with it" if joins else "the mean is worse with it"
        choices[place] = Choice(taken=joins, why=why, score_with=found, score_without=score)
        taken, score = ([*taken, place], found) if joins else (taken, score)
    return [choices[place] for place in range(members)]
