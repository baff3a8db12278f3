from itertools import permutations

import pytest
from pydantic import TypeAdapter

from app.domain.errors import InvalidRequestError
from app.domain.optimize_order import check_chain_order, stage_of
from app.domain.optimize_specs import Step

OPTIONS = {
    "distill": {"method": "distill", "student": {"type": "mlp"}},
    "share": {"method": "share_weights"},
    "convolve": {"method": "convolve"},
    "factorize": {"method": "factorize"},
    "channels": {"method": "prune"},
    "zeros": {"method": "prune", "structure": "unstructured"},
    "cluster": {"method": "cluster"},
    "quantize": {"method": "quantize"},
    "fine_tune": {"method": "fine_tune"},
}


def steps(*names: str) -> list[Step]:
    return TypeAdapter(list[Step]).validate_python([OPTIONS[name] for name in names])


@pytest.mark.parametrize(
    "names",
    [
        ("zeros", "cluster", "quantize"),
        ("distill", "channels", "zeros", "cluster"),
        ("convolve", "share", "factorize", "channels", "quantize"),
        ("zeros", "zeros", "cluster", "cluster"),
        ("quantize",),
        ("fine_tune", "channels", "fine_tune", "zeros", "fine_tune", "cluster", "quantize"),
        ("distill", "fine_tune"),
    ],
)
def test_steps_that_keep_what_was_gained_are_accepted(names):
    assert check_chain_order(steps(*names)) is None


@pytest.mark.parametrize(
    ("names", "place"),
    [
        (("cluster", "zeros"), 1),
        (("quantize", "cluster"), 1),
        (("zeros", "cluster", "convolve"), 2),
        (("zeros", "channels"), 1),
        (("channels", "distill"), 1),
        (("distill", "distill"), 1),
        (("quantize", "quantize"), 1),
        (("cluster", "fine_tune"), 1),
        (("quantize", "fine_tune"), 1),
        (("zeros", "fine_tune", "channels"), 2),
        (("fine_tune", "distill"), 1),
    ],
)
def test_a_step_that_would_undo_an_earlier_one_is_refused_in_its_place(names, place):
    with pytest.raises(InvalidRequestError, match="may not follow") as refused:
        check_chain_order(steps(*names))
    assert refused.value.errors[0].pointer == f"/method/steps/{place}/method"
    assert "Order: distill" in refused.value.hint


def test_only_rising_pairs_of_different_stages_are_accepted():
    for one, other in permutations(OPTIONS.keys() - {"fine_tune"}, 2):
        pair = steps(one, other)
        rises = stage_of(pair[0]) <= stage_of(pair[1])
        try:
            check_chain_order(pair)
        except InvalidRequestError:
            assert not rises
        else:
            assert rises
