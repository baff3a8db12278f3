"""Registered data sets."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.db.pages import Page, PageRequest
from app.db.tables import Dataset
from app.domain.datasets import DatasetManifest


def add_dataset(
    session: Session, name: str, manifest: DatasetManifest, *, source: dict[str, Any] | None = None
) -> tuple[Dataset, bool]:
    """Register a data set; return it and whether it is new. The same name with other content: AlreadyExistsError."""
    raise NotImplementedError


def find_dataset(session: Session, name: str) -> Dataset | None:
    """Return a data set by name."""
    raise NotImplementedError


def get_dataset(session: Session, name: str) -> Dataset:
    """Return a data set that a spec names; raise DatasetNotFoundError, which suggests close names."""
    raise NotImplementedError


def dataset_by_id(session: Session, dataset_id: str) -> Dataset:
    """Return the data set of a job."""
    raise NotImplementedError


def list_datasets(session: Session, page: PageRequest) -> Page[Dataset]:
    """Return data sets by name."""
    raise NotImplementedError


def dataset_names(session: Session) -> Sequence[str]:
    """Return all names."""
    raise NotImplementedError
