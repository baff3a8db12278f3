"""Data sets: add one, and look at its rows."""

from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.api.deps import Wired
from app.api.pages import Pages
from app.api.v1.datasets import list_datasets
from app.api.v1.schemas import dataset_out
from app.datasets.options import Builtin
from app.db import datasets
from app.db.session import reading
from app.domain.datasets import DatasetManifest, RowSet
from app.domain.errors import NotFoundError
from app.plots.bars import class_balance
from app.ui.rendering import Rendering
from app.ui.samples import class_counts, take_samples

router = APIRouter(prefix="/ui", include_in_schema=False)
_SAMPLES = 24


@router.get("/datasets")
def show_datasets(request: Request, wired: Wired, page: Pages, pages: Rendering) -> HTMLResponse:
    """Show the data sets, and how to add one."""
    found = list_datasets(request, wired, page)
    return pages.page("datasets.html", found=found, builtins=get_args(Builtin), request=request)


@router.get("/datasets/{name}")
def show_dataset(
    wired: Wired, name: str, pages: Rendering, row_set: Annotated[RowSet, Query(alias="set")] = "report"
) -> HTMLResponse:
    """Show one data set: its schema, how many rows every class has, and some rows."""
    with reading(wired.sessions) as session:
        row = datasets.find_dataset(session, name)
    if row is None:
        raise NotFoundError(f"There is no data set {name[:80]!r}.", hint="The page Datasets lists them.")
    manifest = DatasetManifest.model_validate(row.manifest)
    shown: RowSet = row_set if manifest.dataset_schema.rows.get(row_set) else "train"
    counts = class_counts(wired.arrays, manifest)
    return pages.page(
        "dataset.html",
        dataset=dataset_out(row),
        schema=manifest.dataset_schema,
        balance=class_balance(counts[shown], manifest.dataset_schema.classes) if counts else "",
        counts=counts,
        shown=shown,
        samples=take_samples(wired.arrays, manifest, shown, _SAMPLES),
    )
