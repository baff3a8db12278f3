"""Registered data sets."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import insert_missing, new_id, now
from app.db.pages import Page, PageRequest, cut_page
from app.db.registering import note_blobs
from app.db.tables import Dataset
from app.domain.datasets import DatasetManifest
from app.domain.errors import AlreadyExistsError, DatasetNotFoundError
from app.domain.explain import suggest


def add_dataset(
    session: Session, name: str, manifest: DatasetManifest, *, source: dict[str, Any] | None = None
) -> tuple[Dataset, bool]:
    """Register a data set; return it and whether it is new. The same name with other content: AlreadyExistsError."""
    note_blobs(session, manifest.files)
    row = {"name": name, "digest": manifest.digest, "manifest": manifest.model_dump(mode="json"), "source": source}
    new = insert_missing(session, Dataset, [{"id": new_id(), "created_at": now(), **row}]) == 1
    dataset = session.scalars(select(Dataset).where(Dataset.name == name)).one()
    if dataset.digest != manifest.digest:
        raise AlreadyExistsError(
            f"The name {name!r} belongs to another data set.", hint="Data sets never change: choose a new name."
        )
    return dataset, new


def find_dataset(session: Session, name: str) -> Dataset | None:
    """Return a data set by name."""
    return session.scalars(select(Dataset).where(Dataset.name == name)).one_or_none()


def get_dataset(session: Session, name: str) -> Dataset:
    """Return a data set that a spec names; raise DatasetNotFoundError, which suggests a close name."""
    dataset = find_dataset(session, name)
    if dataset is None:
        raise DatasetNotFoundError(
            f"There is no data set {name[:80]!r}.",
            hint=suggest(name, dataset_names(session)) or "`leanfuse datasets ls` lists the data sets.",
        )
    return dataset


def dataset_by_id(session: Session, dataset_id: str) -> Dataset:
    """Return the data set of a job."""
    return session.get_one(Dataset, dataset_id)


def list_datasets(session: Session, page: PageRequest) -> Page[Dataset]:
    """Return data sets by name."""
    chosen = select(Dataset).order_by(Dataset.name).limit(page.size + 1)
    if page.after is not None:
        chosen = chosen.where(Dataset.name > page.after)
    return cut_page(session.scalars(chosen).all(), page, lambda dataset: dataset.name)


def dataset_names(session: Session, limit: int = 50) -> Sequence[str]:
    """Return names, to suggest one from."""
    return session.scalars(select(Dataset.name).order_by(Dataset.name).limit(limit)).all()
