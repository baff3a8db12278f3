"""From a valid spec to rows: the jobs that it becomes, and the catalogue that it is checked against."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.db import datasets, jobs, registry
from app.db.jobs import Child, JobRow, NewJob
from app.domain.datasets import DatasetManifest
from app.domain.errors import ModelNotFoundError
from app.domain.jobs import PROTOCOL
from app.domain.models import recipe_digest
from app.domain.names import Reference
from app.domain.network import Network, SizeLimits
from app.domain.specs import EnsembleSpec, JobSpec
from app.domain.transfer import unlabelled_of
from app.domain.validation import CheckedSpec, KnownVersion, check_spec, new_members
from app.settings import Limits
from app.store.base import Store

NETWORK = "network.json"
_LARGEST_NETWORK_BYTES = 20_000_000


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

    def version(self, reference: Reference) -> KnownVersion | None:
        """Return the version that a reference names now, or None."""
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


def check(session: Session, spec: JobSpec, *, store: Store, limits: Limits) -> CheckedSpec:
    """Return the spec with pinned references and an estimate, or raise what makes it impossible."""
    sizes = SizeLimits(parameters=limits.parameters, layers=limits.layers)
    return check_spec(spec, SqlCatalogue(session, store), limits=sizes)


def submit(session: Session, checked: CheckedSpec) -> JobRow:
    """Insert the job, and one for each new member of an ensemble."""
    dataset = datasets.get_dataset(session, checked.spec.dataset)
    unlabelled = {datasets.get_dataset(session, name).digest for name in unlabelled_of(checked.spec).values()}
    job = jobs.submit(session, _plan(checked.spec, dataset.id, dataset.digest, sorted(unlabelled)))
    return jobs.get_job(session, job.id)


def _plan(spec: JobSpec, dataset_id: str, dataset_digest: str, unlabelled: Sequence[str] = ()) -> NewJob:
    body = spec.model_dump(mode="json")
    members = new_members(spec) if isinstance(spec, EnsembleSpec) else ()
    return NewJob(
        kind=spec.kind,
        name=spec.name,
        spec=body,
        recipe_digest=recipe_digest(body, dataset_digest, protocol=PROTOCOL, unlabelled=unlabelled),
        dataset_id=dataset_id,
        reuse=spec.reuse,
        priority=spec.priority,
        max_runtime_seconds=spec.max_runtime_seconds,
        children=[Child(_plan(member, dataset_id, dataset_digest), position=index) for index, member in members],
    )
