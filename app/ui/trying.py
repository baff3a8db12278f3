"""Try it: give a model one row by hand, and see what it and its members answer."""

from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from numpy.typing import NDArray

from app.api.deps import Services, Wired
from app.api.v1.lookup import member_names
from app.db import datasets
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain.datasets import DatasetManifest
from app.domain.errors import LeanfuseError
from app.domain.names import parse_reference
from app.ui.rendering import Rendering
from app.ui.samples import peak_value

router = APIRouter(prefix="/ui", include_in_schema=False)
_LOOKED_AT = 256
_FAINT = 0.2


class Typical(NamedTuple):
    """What rows of a data set are like, so that a drawn one can be made like them.

    `peak` is the largest value, `height` the share of a picture's height that has ink, `means` those of a table.
    """

    peak: float
    height: float
    means: list[float]


@router.get("/try")
def show_trying(wired: Wired, pages: Rendering, model: str = "") -> HTMLResponse:
    """Show a place to draw, drop or type a row of a model's data set."""
    known = sorted({row.name for row in wired.view.every_version()})
    chosen = model or (known[0] if known else "")
    row, refusal = _find(wired, chosen) if chosen else (None, "")
    manifest = _manifest(wired, row) if row is not None else None
    return pages.page(
        "try.html",
        known=known,
        chosen=chosen,
        refusal=refusal,
        version=row,
        schema=manifest.dataset_schema if manifest else None,
        typical=_typical(wired, manifest) if manifest else None,
        members=member_names(wired, row) if row is not None else [],
        predict_url=_predict_url(chosen) if row is not None else "",
    )


def _find(wired: Services, reference: str) -> tuple[VersionRow | None, str]:
    try:
        return wired.view.resolve(parse_reference(reference)), ""
    except LeanfuseError as unknown:
        return None, f"{unknown.detail} {unknown.hint}"


def _predict_url(reference: str) -> str:
    name, version, alias = parse_reference(reference)
    if alias is not None:
        return f"/v1/models/{name}/labels/{alias}:predict"
    return f"/v1/models/{name}:predict" if version is None else f"/v1/models/{name}/versions/{version}:predict"


def _manifest(wired: Services, row: VersionRow) -> DatasetManifest | None:
    with reading(wired.sessions) as session:
        found = datasets.find_dataset(session, row.manifest.dataset)
    return DatasetManifest.model_validate(found.manifest) if found is not None else None


def _typical(wired: Services, manifest: DatasetManifest) -> Typical:
    inputs = wired.arrays.array(manifest.files["train_x"])[:_LOOKED_AT]
    features, peak = manifest.dataset_schema.features, peak_value(inputs)
    height = _filled_height(inputs, peak) if features == "image" and len(inputs) else 1.0
    return Typical(peak, height, inputs.mean(axis=0).ravel().tolist() if features == "table" else [])


def _filled_height(images: NDArray[Any], peak: float) -> float:
    """Return the median share of the height, from the first row of pixels with ink to the last."""
    inked = (images.max(axis=-1) > _FAINT * peak).any(axis=2)
    height = inked.shape[1]
    first, last = inked.argmax(axis=1), height - inked[:, ::-1].argmax(axis=1)
    return float(np.median((last - first) / height)) or 1.0
