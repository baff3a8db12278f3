"""From a valid spec to rows: the jobs that it becomes, and the catalogue that it is checked against."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load_file
from sqlalchemy.orm import Session

from app.db import datasets, jobs, registry, workers
from app.db.jobs import Child, JobRow, NewJob
from app.db.tables import Dataset
from app.domain.datasets import DatasetManifest, digest_of
from app.domain.errors import ModelNotFoundError
from app.domain.flatten import InnerMember, flatten
from app.domain.jobs import RECIPE_PROTOCOL
from app.domain.member_jobs import MemberJob, count_of, group_members, member_spec, new_members
from app.domain.models import Link, recipe_digest
from app.domain.names import Reference, parse_reference
from app.domain.network import Network, SizeLimits
from app.domain.optimize_specs import Chain, FactorizeOptions, FromParent, OptimizeMethod
from app.domain.pointing import pointing_at
from app.domain.predict_specs import PredictSpec
from app.domain.prediction_checks import CheckedPrediction, check_prediction
from app.domain.specs import EnsembleSpec, OptimizeSpec, SubmittedSpec, TrainTogetherSpec, WorkSpec
from app.domain.surgery.factorization import choose_ranks
from app.domain.transfer import unlabelled_of
from app.domain.validation import CheckedSpec, KnownVersion, check_spec
from app.settings import Limits
from app.store.base import Store

NETWORK, WEIGHTS = "network.json", "weights.safetensors"
_LARGEST_NETWORK_BYTES = 20_000_000
_LARGEST_WEIGHTS_BYTES = 4_000_000  # their singular values take a fraction of a second


class SqlCatalogue:
    """Know what the database and the store have, within one transaction."""

    def __init__(self, session: Session, store: Store) -> None:
        self._session = session
        self._store = store

    def dataset(self, name: str) -> DatasetManifest | None:
        """Return a data set by name, or None."""
        row = datasets.find_dataset(self._session, name)
        return DatasetManifest.model_validate(row.manifest) if row is not None else None

    def dataset_names(self) -> Sequence[str]:
        """Return all names."""
        return datasets.dataset_names(self._session)

    def version(self, reference: Reference | Link) -> KnownVersion | None:
        """Return the version that a reference names now or a link points to, or None."""
        if isinstance(reference, Link):
            linked = registry.versions_by_id(self._session, [reference.version_id]).get(reference.version_id)
            return KnownVersion(linked.name, linked.version, linked.state, linked.manifest) if linked else None
        try:
            row = registry.resolve(self._session, reference)
        except ModelNotFoundError:
            # A version that is there but cannot answer is another error than one that never was.
            exact = reference.version is not None or reference.alias is not None
            found = registry.find_in_any_state(self._session, reference) if exact else None
            if found is None:
                return None
            row = found
        return KnownVersion(row.name, row.version, row.state, row.manifest)

    def network(self, known: KnownVersion) -> Network | None:
        """Return a version's layers, or None where it has none of its own, or more than were ever accepted."""
        file = known.manifest.files.get(NETWORK)
        if file is None or file.size_bytes > _LARGEST_NETWORK_BYTES:
            return None
        return Network.model_validate_json(self._store.fetch(file.sha256).read_bytes())

    def inner_members(self, reference: Reference) -> Sequence[InnerMember]:
        """Return the members of a version that is a parallel ensemble, for any other none."""
        manifest = registry.resolve(self._session, reference).manifest
        links = [link for link in manifest.links if link.role == "member"] if manifest.method == "parallel" else []
        found = registry.versions_by_id(self._session, [link.version_id for link in links])
        if any(row.state not in registry.KNOWN_STATES for row in found.values()):
            return []
        total = sum(link.weight or 0.0 for link in links)
        return [
            InnerMember(f"{row.name}/{row.version}", (link.weight or 0.0) / total)
            for link in sorted(links, key=lambda link: link.position)
            for row in [found[link.version_id]]
        ]

    def weights(self, known: KnownVersion) -> Mapping[str, NDArray[Any]] | None:
        """Return a version's weights, or None where it has none or more than are looked at before a job is accepted."""
        file = known.manifest.files.get(WEIGHTS)
        if file is None or file.size_bytes > _LARGEST_WEIGHTS_BYTES:
            return None
        weights: Mapping[str, NDArray[Any]] = load_file(self._store.fetch(file.sha256))
        return weights


def check(session: Session, spec: SubmittedSpec, *, store: Store, limits: Limits) -> CheckedSpec | CheckedPrediction:
    """Return the spec with pinned references and an estimate, or raise what makes it impossible."""
    sizes = SizeLimits(parameters=limits.parameters, layers=limits.layers)
    catalogue = SqlCatalogue(session, store)
    if isinstance(spec, PredictSpec):
        return check_prediction(spec, catalogue)
    checked = check_spec(spec, catalogue, limits=sizes)
    if isinstance(checked.spec, OptimizeSpec):
        _check_ranks(checked.spec.method, catalogue)
    return checked._replace(spec=flatten(checked.spec, catalogue))


def _check_ranks(method: OptimizeMethod, catalogue: SqlCatalogue) -> None:
    """Raise MethodNotApplicableError where the parent's weights show that factorizing makes no layer smaller.

    Of a chain only the first step starts from weights that exist.
    """
    first = method.steps[0] if isinstance(method, Chain) else method
    if not isinstance(first, FactorizeOptions) or not isinstance(method, FromParent):
        return
    known = catalogue.version(parse_reference(method.parent))
    network, weights = (catalogue.network(known), catalogue.weights(known)) if known else (None, None)
    if network is not None and weights is not None:
        with pointing_at("/method/steps/0/energy" if isinstance(method, Chain) else "/method/energy"):
            choose_ranks(network, weights, first.energy)


def submit(session: Session, checked: CheckedSpec | CheckedPrediction) -> JobRow:
    """Insert the job, and those that train the new members of an ensemble."""
    dataset = datasets.get_dataset(session, checked.spec.dataset)
    if isinstance(checked, CheckedPrediction):
        return jobs.get_job(session, jobs.submit(session, _plan_prediction(checked, dataset)).id)
    unlabelled = {datasets.get_dataset(session, name).digest for name in unlabelled_of(checked.spec).values()}
    new = _plan(checked.spec, dataset, sorted(unlabelled))
    if isinstance(checked.spec, EnsembleSpec):
        new = replace(new, children=_children(session, checked.spec, dataset), min_dependencies=_least(checked.spec))
    return jobs.get_job(session, jobs.submit(session, new).id)


def _plan(spec: WorkSpec, dataset: Dataset, unlabelled: Sequence[str] = ()) -> NewJob:
    return NewJob(
        kind=spec.kind,
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        recipe_digest=_recipe(spec, dataset, unlabelled),
        dataset_id=dataset.id,
        reuse=spec.reuse,
        priority=spec.priority,
        max_runtime_seconds=spec.max_runtime_seconds,
    )


def _plan_prediction(checked: CheckedPrediction, dataset: Dataset) -> NewJob:
    """Plan a batch prediction; its recipe is what decides the bytes of the file."""
    spec = checked.spec
    choices = spec.model_dump(mode="json", exclude={"name", "priority", "reuse", "max_runtime_seconds"})
    recipe = {"spec": choices, "digest": checked.version.manifest.digest, "dataset": dataset.digest}
    return NewJob(
        kind=spec.kind,
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        recipe_digest=digest_of({**recipe, "protocol": RECIPE_PROTOCOL}),
        dataset_id=dataset.id,
        reuse=spec.reuse,
        priority=spec.priority,
        max_runtime_seconds=spec.max_runtime_seconds,
        total_steps=checked.estimate.rows,
    )


def _recipe(spec: WorkSpec, dataset: Dataset, unlabelled: Sequence[str] = ()) -> str:
    """Return what decides the weights; of members that are trained together what decides those of each."""
    if isinstance(spec, TrainTogetherSpec):
        return digest_of([_recipe(member_spec(spec, member), dataset) for member in spec.members])
    body = spec.model_dump(mode="json")
    return recipe_digest(body, dataset.digest, protocol=RECIPE_PROTOCOL, unlabelled=unlabelled)


def _children(session: Session, spec: EnsembleSpec, dataset: Dataset) -> list[Child]:
    """Return the jobs of new members; one that exists already is taken, so it needs no place in a group."""
    members = list(new_members(spec))
    recipes = {index: _recipe(member, dataset) for index, member in members if member.reuse}
    known = registry.find_by_recipes(session, list(recipes.values()))
    missing = [(index, member) for index, member in members if recipes.get(index) not in known]
    kept = [MemberJob(member, (index,)) for index, member in members if recipes.get(index) in known]
    slots = sum(worker.slots for worker in workers.list_workers(session) if worker.drain_requested_at is None)
    planned = [*kept, *group_members(spec, missing, slots=slots)]
    return [Child(_plan(job.spec, dataset), job.positions) for job in planned]


def _least(spec: EnsembleSpec) -> int | None:
    """Return how many of the new members must succeed; None: all."""
    if spec.min_members is None:
        return None
    registered = count_of(spec) - len(list(new_members(spec)))
    return max(0, spec.min_members - registered)
