"""Soups: one network whose weights are the mean of those of several fine-tunes of one ancestor."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.ensemble_specs import Soup
from app.domain.errors import InvalidEnsembleError
from app.domain.models import Link
from app.domain.network import Network
from app.domain.recipes import Choice, Taste, take_all, take_greedily
from app.domain.specs import EnsembleSpec
from app.domain.surgery.rewriting import Weights
from app.serving.runtime import predict_rows
from worker.assignment import Assignment
from worker.context import Context, Reporter, Stopped
from worker.ensemble.fusing import check_gain
from worker.ensemble.members import best_of, loss_of
from worker.learning import Single, Trained, engine_of, single_product
from worker.nn.statistics import is_normalized, recompute_statistics
from worker.optimize.parents import Parent, answers_for, label_of, link_to, read_parent, served_path, with_layers
from worker.optimize.selection import selection_figures
from worker.package import Baseline, Product
from worker.rows import Data


def stir_soup(spec: EnsembleSpec, method: Soup, assignment: Assignment, context: Context, data: Data) -> Product:
    """Choose members by the selection rows, average their weights, recompute statistics of batches, and measure."""
    ancestor = read_parent(assignment, data)
    members = [with_layers(version) for version in assignment.references.get("members", ())]
    _check_layers(ancestor, members)
    pot = Pot(ancestor.network, [member.weights for member in members], assignment.seed, data)
    choices = _choose(method, pot, context.reporter)
    taken = [place for place, choice in enumerate(choices) if choice.taken]
    context.reporter.log(f"{spec.name}: {len(taken)} of {len(members)} members are in the mean")
    context.reporter.progress(1, 1)
    weights = pot.stir(taken)
    notes = {
        "recipe": method.recipe,
        "ancestor": label_of(ancestor.version),
        "members": [_told(*pair, data) for pair in zip(members, choices, strict=True)],
        "statistics": _told_statistics(pot, taken, weights),
    }
    links = (link_to(ancestor.version, "parent"), *_links(members, taken))
    baselines = _baselines(members, data)
    single = Single(pot.network, Trained(weights, []), spec.name, "soup", baselines, notes, links=links)
    product = single_product(single, assignment, data)
    check_gain(spec, product, data)
    return product


@dataclass(frozen=True)
class Pot:
    """Hold weights of one network that may be averaged, and the rows by which a mean is finished and scored."""

    network: Network
    members: Sequence[dict[str, NDArray[Any]]]
    seed: int
    data: Data

    def mean(self, places: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return the mean of some members' weights, added up in float64, with the mean of their statistics."""
        return {
            name: np.mean([self.members[place][name] for place in places], axis=0, dtype=np.float64).astype(own.dtype)
            for name, own in self.members[0].items()
        }

    def stir(self, places: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return the mean with statistics of its own; one member alone stays as it is."""
        if not self.needs_statistics(places):
            return self.mean(places)
        return recompute_statistics(self.network, self.mean(places), self.data.x["train"], seed=self.seed)

    def needs_statistics(self, places: Sequence[int]) -> bool:
        """Say whether the mean of these members has statistics that no training has fitted to it."""
        return len(places) > 1 and is_normalized(self.network)

    def score(self, places: Sequence[int]) -> float:
        """Return what a choice is made by: accuracy on the selection rows, by weight, or minus the squared error."""
        engine = engine_of(self.network, self.stir(places))
        answers = predict_rows(engine, self.data.x["selection"], self.data.output).astype(np.float64)
        return score_of(answers, self.data)


def score_of(answers: NDArray[np.float64], data: Data) -> float:
    """Return what answers (rows, outputs) for the selection rows score, more is better; rows count by their weight."""
    targets, row_weights = np.asarray(data.y["selection"]), data.weights.get("selection")
    if data.classification:
        return float(np.average(answers.argmax(axis=1) == targets, weights=row_weights))
    return -loss_of(answers, targets, data, row_weights=row_weights)


def _choose(method: Soup, pot: Pot, reporter: Reporter) -> list[Choice]:
    members = len(pot.members)
    return take_all(members) if method.recipe == "uniform" else take_greedily(members, _taste(pot, reporter))


def _taste(pot: Pot, reporter: Reporter) -> Taste:
    """Score means, tell how many, and end early for who cancels; the few that there are need no checkpoint."""
    tasted = count(1)

    def taste(places: Sequence[int]) -> float:
        score, step = pot.score(places), next(tasted)
        reporter.progress(step, 2 * len(pot.members))
        if reporter.stop_requested() == "cancel":
            raise Stopped("cancel", step=step)
        return score

    return taste


def _check_layers(ancestor: Parent, members: Sequence[Parent]) -> None:
    for member in members:
        if member.network != ancestor.network:
            own, other = label_of(member.version), label_of(ancestor.version)
            raise InvalidEnsembleError(
                f"{own} has not the layers of {other}, so their weights have no mean.",
                hint="Name fine-tunes of the ancestor.",
            )


def _told(member: Parent, choice: Choice, data: Data) -> dict[str, Any]:
    figures = selection_figures(member.network, member.weights, data)
    return {"model": label_of(member.version), "digest": member.version.digest, **asdict(choice), **figures}


def _told_statistics(pot: Pot, taken: Sequence[int], weights: Weights) -> dict[str, Any] | None:
    """Return the selection figures before and after statistics were recomputed; None where none were."""
    if not pot.needs_statistics(taken):
        return None
    return {
        "recomputed_on": "train rows",
        "before": selection_figures(pot.network, pot.mean(taken), pot.data),
        "after": selection_figures(pot.network, weights, pot.data),
    }


def _links(members: Sequence[Parent], taken: Sequence[int]) -> list[Link]:
    """Link every member by its share of the mean; those that were left out had a part in the choice."""
    shares = [1 / len(taken) if place in taken else 0.0 for place in range(len(members))]
    return [
        Link(role="member", version_id=member.version.version_id, position=place, weight=share)
        for place, (member, share) in enumerate(zip(members, shares, strict=True))
    ]


def _baselines(members: Sequence[Parent], data: Data) -> list[Baseline]:
    answers = np.stack([answers_for(member.version, data.x["report"], data) for member in members]).astype(np.float64)
    place = best_of(answers, data.y["report"], data)
    best = members[place].version
    return [
        Baseline(f"its best member {label_of(best)}", answers[place], served_path(best)),
        Baseline("the plain mean of its members' answers", answers.mean(axis=0)),
    ]
