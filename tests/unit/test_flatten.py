from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidEnsembleError
from app.domain.flatten import InnerMember, flatten
from app.domain.fusion import weighted_mean
from app.domain.names import Reference
from app.domain.specs import EnsembleSpec, job_spec_adapter

LEAVES = {f"leaf-{place}/1": np.random.default_rng(place).dirichlet(np.ones(3), size=5) for place in range(4)}


class Tree:
    """Know ensembles as {reference: {member: weight}}."""

    def __init__(self, ensembles: Mapping[str, Mapping[str, float]]) -> None:
        self.ensembles = ensembles

    def inner_members(self, reference: Reference) -> Sequence[InnerMember]:
        inner = self.ensembles.get(str(reference), {})
        return [InnerMember(name, weight / sum(inner.values())) for name, weight in inner.items()]

    def answers(self, name: str) -> np.ndarray:
        if name in LEAVES:
            return LEAVES[name]
        inner = self.inner_members(Reference(name.partition("/")[0], 1))
        return sum(part.weight * self.answers(part.model) for part in inner)


def ensemble(members: Sequence[str], weights: Any = "uniform", *, members_to_train: Sequence[Any] = ()) -> EnsembleSpec:
    listed = [*({"model": name} for name in members), *members_to_train]
    body = {"kind": "ensemble", "name": "all", "dataset": "digits"}
    method = {"method": "parallel", "members": listed, "weights": weights}
    found = job_spec_adapter.validate_python({**body, "method": method})
    assert isinstance(found, EnsembleSpec)
    return found


def named(spec: Any) -> list[str]:
    return [member.model for member in spec.method.members]


positive = st.floats(0.1, 5)
inner = st.dictionaries(st.sampled_from(sorted(LEAVES)), positive, min_size=1)
middle = st.dictionaries(st.sampled_from([*LEAVES, "low-0/1", "low-1/1"]), positive, min_size=1)


@given(
    low=st.tuples(inner, inner),
    high=middle,
    outer=st.lists(st.tuples(st.sampled_from([*LEAVES, "low-0/1", "high/1"]), positive), min_size=1, max_size=6),
    given_weights=st.booleans(),
)
def test_a_flattened_ensemble_answers_what_the_nested_one_did(
    low: Any, high: Any, outer: list[tuple[str, float]], given_weights: bool
) -> None:
    tree = Tree({"low-0/1": low[0], "low-1/1": low[1], "high/1": high})
    members, weights = [name for name, _ in outer], [weight for _, weight in outer]
    flat = flatten(ensemble(members, weights if given_weights else "uniform"), tree)
    assert isinstance(flat, EnsembleSpec)
    assert set(named(flat)) <= set(LEAVES)
    assert len(set(named(flat))) == len(named(flat))
    nested = weighted_mean(
        np.stack([tree.answers(name) for name in members]),
        np.array(weights if given_weights else np.ones(len(members))),
    )
    own = getattr(flat.method, "weights", None)
    found = weighted_mean(
        np.stack([LEAVES[name] for name in named(flat)]),
        np.ones(len(named(flat))) if own == "uniform" else np.array(own),
    )
    assert np.allclose(found, nested, atol=1e-9)


def test_fitted_weights_are_fitted_over_all_members() -> None:
    tree = Tree({"duo/1": {"leaf-0/1": 1, "leaf-1/1": 3}})
    flat = flatten(ensemble(["duo/1", "leaf-1/1", "leaf-2/1"], "convex"), tree)
    assert named(flat) == ["leaf-0/1", "leaf-1/1", "leaf-2/1"]
    assert flat.method.weights == "convex"  # type: ignore[union-attr]


def test_a_spec_without_ensembles_or_twins_stays_as_it_is() -> None:
    spec = ensemble(["leaf-0/1", "leaf-1/1"])
    assert flatten(spec, Tree({})) is spec


def test_members_to_train_are_never_merged() -> None:
    new = [{"architecture": {"type": "mlp"}}, {"architecture": {"type": "mlp"}}]
    spec = ensemble([], members_to_train=new)
    assert flatten(spec, Tree({})) is spec


def test_too_many_members_are_refused_with_their_number() -> None:
    tree = Tree({"many/1": {f"one-{place}/1": 1.0 for place in range(101)}})
    with pytest.raises(InvalidEnsembleError, match="101 members"):
        flatten(ensemble(["many/1"]), tree)
