"""Which members join a mean: properties of the greedy recipe for any scores."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.domain.recipes import take_all, take_greedily

scores = st.integers(0, 5).map(float)


@given(st.integers(1, 7), st.data())
def test_what_is_taken_scores_no_less_than_the_best_member_and_what_is_left_would_lower_it(
    members: int, data: st.DataObject
) -> None:
    tasted: dict[tuple[int, ...], float] = {}

    def taste(places: Sequence[int]) -> float:
        if tuple(places) not in tasted:
            tasted[tuple(places)] = data.draw(scores)
        return tasted[tuple(places)]

    choices = take_greedily(members, taste)
    taken = tuple(place for place, choice in enumerate(choices) if choice.taken)
    assert tasted[taken] >= max(tasted[place,] for place in range(members))
    for choice in choices:
        if choice.score_without is not None:
            assert choice.taken == (choice.score_with >= choice.score_without)
    assert sum(choice.score_without is None for choice in choices) == 1
    assert len(tasted) <= 2 * members - 1


def test_members_join_from_the_best_on_and_equal_ones_in_their_order() -> None:
    asked: list[tuple[int, ...]] = []

    def taste(places: Sequence[int]) -> float:
        asked.append(tuple(places))
        return {(0,): 1.0, (1,): 3.0, (2,): 1.0, (0, 1): 2.0}.get(tuple(places), 4.0)

    choices = take_greedily(3, taste)
    assert asked == [(0,), (1,), (2,), (0, 1), (1, 2)]
    assert [choice.taken for choice in choices] == [False, True, True]


def test_all_are_taken_untasted() -> None:
    assert [choice.taken for choice in take_all(3)] == [True] * 3
