"""What a batch prediction may read, looked up and laid out."""

from dataclasses import dataclass
from pathlib import Path

from app.db.attempts import ClaimedJob
from app.db.datasets import dataset_by_id
from app.db.registry import VersionRow, find_in_any_state
from app.db.session import Sessions, reading
from app.domain.datasets import DatasetManifest
from app.domain.job_errors import DependencyFailedError
from app.domain.names import parse_reference
from app.domain.predict_specs import PredictSpec
from app.settings import Settings
from app.store import hold
from app.store.base import Store
from worker.assignment import BatchAssignment, Limits
from worker.staging import Source, dataset_input, version_input


@dataclass(frozen=True)
class Batch:
    """What the database says about a batch prediction's inputs."""

    spec: PredictSpec
    dataset: str
    manifest: DatasetManifest
    version: VersionRow


def find_batch(sessions: Sessions, job: ClaimedJob) -> Batch:
    """Look up the data set and the pinned version; raise DependencyFailedError when the version is gone."""
    spec = PredictSpec.model_validate(job.spec)
    with reading(sessions) as session:
        dataset = dataset_by_id(session, job.dataset_id)
        version = find_in_any_state(session, parse_reference(spec.model))
        if version is None or version.state not in ("ready", "deprecated", "rejected"):
            state = "gone" if version is None else version.state
            raise DependencyFailedError(f"{spec.model} is {state}.", hint="Submit the job with another version.")
        return Batch(spec, dataset.name, DatasetManifest.model_validate(dataset.manifest), version)


def lay_out_batch(batch: Batch, *, directory: Path, store: Store, settings: Settings) -> Path:
    """Fetch what is read, make the directories and return the path of the assignment."""
    for name in ("scratch", "output"):
        (directory / name).mkdir(mode=0o700, parents=True)
    store = hold(store, directory / "inputs")
    assignment = BatchAssignment(
        spec=batch.spec,
        dataset=dataset_input(batch.dataset, batch.manifest, store),
        version=version_input(Source(batch.version, {}), store),
        scratch=directory / "scratch",
        output=directory / "output",
        limits=Limits(threads=settings.worker.threads_of_a_slot),
    )
    path = directory / "assignment.json"
    path.write_text(assignment.model_dump_json())
    return path
