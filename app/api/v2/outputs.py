"""What a version can answer: what its graph computes, and what follows from that."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from app.api.deps import Services
from app.api.v2.datatypes import Array
from app.api.v2.wire import Asked, InferRequest
from app.db.registry import VersionRow
from app.domain.errors import InvalidRequestError
from app.domain.explain import suggest
from app.domain.models import VersionManifest
from app.serving.answering import ANSWERED_BY, main_output, member_output, member_weights, uncertainty_of

WEIGHTS = "weights"


class Offer(NamedTuple):
    """Describe an output: -1 stands for the rows; `derived` from what the graph computes."""

    datatype: str
    shape: tuple[int, ...]
    derived: bool = False


def offered(manifest: VersionManifest) -> Mapping[str, Offer]:
    """Return every output by name, the default one first."""
    width = len(manifest.classes) if manifest.task == "classification" else 1
    offers = {main_output(manifest): Offer("FP32", (-1, width))}
    for name in manifest.extra_outputs:
        offers[name] = Offer("FP32", (-1,) if name == ANSWERED_BY else (-1, width))
    offers |= {name: Offer("FP32", (-1, width)) for name in _member_names(manifest)}
    offers |= {name: Offer("FP64", (-1,), derived=True) for name in _uncertainty_names(manifest)}
    weights = member_weights(manifest)
    if weights is not None:
        offers[WEIGHTS] = Offer("FP64", weights.shape, derived=True)
    return offers


def _member_names(manifest: VersionManifest) -> list[str]:
    """Name the members' own answers; in a cascade only the first member answers every row."""
    members = sum(link.role == "member" for link in manifest.links)
    if ANSWERED_BY in manifest.extra_outputs:
        members = min(members, 1)
    return [f"member.{index}.{member_output(manifest)}" for index in range(members)]


def _members_of_uncertainty(manifest: VersionManifest) -> list[str]:
    is_needed = member_output(manifest) != "logits" and ANSWERED_BY not in manifest.extra_outputs
    return _member_names(manifest) if is_needed else []


def _uncertainty_names(manifest: VersionManifest) -> list[str]:
    """Ask an example which uncertainties there are, so that nothing is listed twice."""
    width = len(manifest.classes) if manifest.task == "classification" else 1
    example = np.full((1, width), 1 / width, np.float32)
    return list(uncertainty_of(manifest, example, [example] * len(_members_of_uncertainty(manifest))))


def wanted_outputs(request: InferRequest, manifest: VersionManifest) -> Sequence[Asked]:
    """Return what a request wants; without names that is the fused answer alone. Raise InvalidRequestError."""
    main = main_output(manifest)
    if not request.outputs:
        return [Asked(main, binary=request.binary_outputs)]
    if all(asked.name == main and not asked.classes for asked in request.outputs):
        return request.outputs
    known = offered(manifest)
    for asked in request.outputs:
        if asked.name not in known:
            names = ", ".join(f"`{name}`" for name in known)
            hint = suggest(asked.name, sorted(known)) or f"There are {names}."
            raise InvalidRequestError(f"There is no output `{asked.name[:80]}`.", hint=hint)
        shape = known[asked.name].shape
        if asked.classes and (len(shape) != 2 or shape[1] != len(manifest.classes)):
            raise InvalidRequestError(
                f"Output `{asked.name}` has no classes.", hint="Ask for it without `classification`."
            )
    return request.outputs


async def answer(
    wired: Services, version: VersionRow, rows: Array, names: Sequence[str], *, deadline_seconds: float | None
) -> list[Array]:
    """Run a version on rows and return the named outputs; only what they need is computed."""
    manifest = version.manifest
    main = main_output(manifest)
    known = {} if list(names) == [main] else offered(manifest)
    plain = [name for name in names if name == main or not known[name].derived]
    if len(plain) == len(names):
        return await wired.predictor.predict(version, rows, names, deadline_seconds=deadline_seconds)
    parts = _members_of_uncertainty(manifest)
    needed = list(dict.fromkeys([main, *plain, *parts]))
    arrays = await wired.predictor.predict(version, rows, needed, deadline_seconds=deadline_seconds)
    found = dict(zip(needed, arrays, strict=True))
    derived = uncertainty_of(manifest, found[main], [found[name] for name in parts])
    found |= {name: np.asarray(values, np.float64) for name, values in derived.items()}
    weights = member_weights(manifest)
    if weights is not None:
        found[WEIGHTS] = weights
    return [found[name] for name in names]


def best_classes(array: Array, count: int, names: Sequence[str]) -> Array:
    """Return the `count` largest values of each row, the largest first, as `value:index:name` in bytes."""
    chosen = np.argsort(-array, axis=1, kind="stable")[:, :count]
    told = np.empty(chosen.shape, dtype=object)
    for (row, place), index in np.ndenumerate(chosen):
        told[row, place] = f"{array[row, index]:f}:{index}:{names[int(index)]}".encode()
    return told
