"""Decide whether networks can be averaged: one ancestor, from whose weights all of them came, and equal layers."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from app.domain.applicable import Planned, Source, layers_of
from app.domain.ensemble_specs import FineTunedMember, Soup
from app.domain.errors import InvalidEnsembleError
from app.domain.models import Link, VersionManifest
from app.domain.network import Network
from app.domain.optimize_specs import FineTune
from app.domain.pointing import pointing_at
from app.domain.specs import EnsembleSpec, OptimizeSpec

ANCESTOR = "/method/ancestor"
# Methods whose result starts from the weights of its parent, every layer in its place.
_KEEPS_THE_START = frozenset({"fine_tune", "prune", "cluster", "soup"})
# A lineage longer than this is not followed: each step is a query.
_LONGEST_LINEAGE = 100

Find = Callable[[Link], VersionManifest | None]


def check_soup(spec: EnsembleSpec, method: Soup, sources: Mapping[str, Source], find: Find) -> list[Planned]:
    """Return the fine-tunings that the soup will make; raise InvalidEnsembleError for a member that cannot be averaged.

    `sources` has what the spec refers to, by pointer; `find` follows a link to the manifest of a version.
    """
    ancestor = sources[ANCESTOR]
    with pointing_at(ANCESTOR):
        network = layers_of(ancestor)
    for pointer, source in sources.items():
        if pointer != ANCESTOR:
            with pointing_at(pointer):
                _check_member(source, ancestor, network, find)
    return [_plan(index, network, spec, own) for index, own in fine_tunes_of(spec, method)]


def fine_tunes_of(spec: EnsembleSpec, method: Soup) -> Iterator[tuple[int, OptimizeSpec]]:
    """Yield position and job of every member that the soup fine-tunes itself."""
    for index, member in enumerate(method.members):
        if isinstance(member, FineTunedMember):
            yield index, _fine_tune(spec, method, index, member)


def _fine_tune(spec: EnsembleSpec, method: Soup, index: int, member: FineTunedMember) -> OptimizeSpec:
    return OptimizeSpec(
        kind="optimize",
        name=f"{spec.name}-m{index}",
        dataset=spec.dataset,
        method=FineTune(method="fine_tune", parent=method.ancestor),
        training=member.training or spec.training,
        seed=member.seed,
        tags=spec.tags,
        priority=spec.priority,
        reuse=spec.reuse,
        max_runtime_seconds=spec.max_runtime_seconds,
    )


def _plan(index: int, network: Network, spec: EnsembleSpec, own: OptimizeSpec) -> Planned:
    shared = own.training is spec.training
    return Planned(network, own.training, "/training" if shared else f"/method/members/{index}/training")


def _check_member(member: Source, ancestor: Source, network: Network, find: Find) -> None:
    if member.network != network:
        raise InvalidEnsembleError(
            f"{member.reference} has not the layers of {ancestor.reference}, so their weights have no mean.",
            hint="Name fine-tunes of the ancestor, or fuse the answers by `parallel`.",
        )
    if not descends(member.manifest, ancestor.manifest, find):
        raise InvalidEnsembleError(
            f"{member.reference} does not descend from {ancestor.reference}: a mean of networks that were "
            "trained from different starts answers at random.",
            hint="Name versions that `fine_tune` made of the ancestor, or fuse the answers by `parallel`.",
        )


def descends(member: VersionManifest, ancestor: VersionManifest, find: Find) -> bool:
    """Tell whether a version is the ancestor, or was made of its weights, be it through several versions.

    Versions are compared by digest: one that another job took over under its own name has the same weights.
    """
    line: Sequence[VersionManifest] = [member]
    for _ in range(_LONGEST_LINEAGE):
        if any(version.digest == ancestor.digest for version in line):
            return True
        links = [
            link
            for version in line
            if version.method in _KEEPS_THE_START
            for link in version.links
            if link.role == "parent"
        ]
        line = [found for link in links if (found := find(link)) is not None]
    return False
