"""Decide whether an optimization can be applied to what it starts from: the rewriting itself, without any weights."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from app.domain.datasets import DatasetSchema
from app.domain.ensemble_specs import Cascade, Parallel, Soup
from app.domain.errors import ShapeMismatchError
from app.domain.hints import hint_shapes
from app.domain.job_errors import MethodNotApplicableError
from app.domain.models import VersionManifest
from app.domain.network import Network, SizeLimits, trace
from app.domain.optimize_order import check_chain_order
from app.domain.optimize_specs import (
    Chain,
    ClusterOptions,
    ConvolveOptions,
    DistillOptions,
    FactorizeOptions,
    OptimizeMethod,
    PruneOptions,
    QuantizeOptions,
    ShareOptions,
    ShareWeights,
    Step,
)
from app.domain.pointing import pointing_at
from app.domain.presets import build_network
from app.domain.specs import EnsembleSpec, JobSpec, OptimizeSpec, SearchSpec
from app.domain.surgery.convolution import convolve
from app.domain.surgery.factorization import check_factorizable
from app.domain.surgery.pruning import check_prunable, kernels_of
from app.domain.surgery.sharing import find_groups, share
from app.domain.training_specs import TrainingSpec

Options: TypeAlias = OptimizeMethod | Step
# Also for a step of a chain: what comes out of a step always has layers, unless nothing may follow.
_PARENT = "/method/parent"


class Source(NamedTuple):
    """What a method starts from: a version, or what the step before made of it; `network` is None for one without."""

    reference: str
    manifest: VersionManifest
    network: Network | None


class Planned(NamedTuple):
    """A network that will be trained, how, where the spec says so, and how often."""

    network: Network
    training: TrainingSpec
    pointer: str = "/training"
    times: int = 1


class _Place(NamedTuple):
    """Where in the spec a method stands, how it trains, and on what."""

    pointer: str
    training: TrainingSpec
    training_pointer: str
    schema: DatasetSchema
    limits: SizeLimits

    def planned(self, network: Network, times: int = 1) -> list[Planned]:
        return [Planned(network, self.training, self.training_pointer, times)]


def check_applicable(
    spec: OptimizeSpec, source: Source | None, schema: DatasetSchema, *, limits: SizeLimits
) -> list[Planned]:
    """Return what will be trained; raise MethodNotApplicableError, with its place, when the method cannot be applied.

    `source` is the parent or teacher; None for a method that trains an architecture of its own.
    """
    method = spec.method
    place = _Place("/method", spec.training, "/training", schema, limits)
    if isinstance(method, ShareWeights) and method.architecture is not None:
        with pointing_at("/method/architecture"):
            network = build_network(method.architecture, schema)
        _rewrite(method, network, place)
        return place.planned(network)
    if source is None:
        raise ValueError("a method without an architecture of its own starts from a version")
    if isinstance(method, Chain):
        return _check_chain(method, source, place)
    return _apply(method, source, place)[1]


def check_seeds(spec: JobSpec) -> None:
    """Raise when a job is to be repeated in which nothing depends on the seed."""
    if spec.seeds == 1:
        return
    why = ""
    if isinstance(spec, EnsembleSpec) and isinstance(spec.method, Parallel | Cascade):
        kind = spec.method.method
        why = f"The members of a {kind} ensemble are trained once, before they are fused, and fusing draws nothing."
    elif isinstance(spec, EnsembleSpec) and isinstance(spec.method, Soup):
        why = "The members of a soup are trained once, before their weights are averaged, and averaging draws nothing."
    elif isinstance(spec, SearchSpec):
        why = "Each seed finds another front, and figures of different networks have no mean."
    elif isinstance(spec, OptimizeSpec) and all(map(_draws_nothing, _steps(spec.method))):
        why = "Nothing in this method is drawn at random, so every repeat would be the same."
    if why:
        with pointing_at("/seeds"):
            raise MethodNotApplicableError(why, hint="Leave `seeds` at 1, and repeat the job that trains.")


def _steps(method: OptimizeMethod) -> Sequence[Options]:
    return method.steps if isinstance(method, Chain) else [method]


def _draws_nothing(method: Options) -> bool:
    return isinstance(method, QuantizeOptions) and method.mode != "static_int8"


def _check_chain(chain: Chain, source: Source, place: _Place) -> list[Planned]:
    check_chain_order(chain.steps)
    planned: list[Planned] = []
    for index, step in enumerate(chain.steps):
        pointer = f"/method/steps/{index}"
        own = place._replace(pointer=pointer)
        if step.training is not None:
            own = own._replace(training=step.training, training_pointer=f"{pointer}/training")
        source, trained = _apply(step, source, own)
        planned += trained
    return planned


def _apply(method: Options, source: Source, place: _Place) -> tuple[Source, list[Planned]]:
    """Return what the method would make, as far as arithmetic knows it, and what it would train for that."""
    if isinstance(method, QuantizeOptions):
        _check_float(source)
        return source, []
    if isinstance(method, DistillOptions):
        return _distill(method, source, place)
    with pointing_at(_PARENT):
        network = layers_of(source)
    made = _rewrite(method, network, place)
    return source._replace(network=made), place.planned(made)


def _distill(method: DistillOptions, teacher: Source, place: _Place) -> tuple[Source, list[Planned]]:
    with pointing_at(f"{place.pointer}/student"):
        student = build_network(method.student, place.schema)
        trace(student, limits=place.limits)
    planned = place.planned(student, times=2 if method.control else 1)
    if method.transfer.labels == "out_of_fold":
        with pointing_at(f"{place.pointer}/transfer/labels"):
            planned += _retrained(teacher, method.transfer.folds, place)
    if method.hints is not None:
        with pointing_at(f"{place.pointer}/hints"):
            hint_shapes(student, layers_of(teacher), method.hints)
    return teacher._replace(network=student), planned


def _retrained(teacher: Source, folds: int, place: _Place) -> list[Planned]:
    """Return the teacher's trainings on every fold; those of an ensemble's members are not counted."""
    if teacher.network is not None:
        return place.planned(teacher.network, times=folds)
    if teacher.manifest.method != "parallel":
        raise MethodNotApplicableError(
            f"{teacher.reference} was made by {teacher.manifest.method}; only single models that Leanfuse trained and "
            "parallel ensembles can be trained again without a fold.",
            hint='Leave `transfer.labels` at "teacher".',
        )
    return []


def _rewrite(method: Options, network: Network, place: _Place) -> Network:
    """Return the network that the method makes of one; where its size depends on the weights, the one that it got."""
    with pointing_at(f"{place.pointer}/{_decisive_field(method)}"):
        match method:
            case ShareOptions():
                groups = find_groups(network, method.groups)
                made = network if method.groups == "found" else share(network, groups)
            case ConvolveOptions():
                made = convolve(network, {}, to=method.to, width=method.width).network
            case PruneOptions():
                check_prunable(network, method)
                made = network
            case FactorizeOptions():
                check_factorizable(network)
                made = network
            case ClusterOptions():
                _check_kernels(network)
                made = network
            case _:
                made = network
        return _checked(made, method.method, place.limits)


def _decisive_field(method: Options) -> str:
    """Name the field that decides most about whether a method can be applied."""
    if isinstance(method, PruneOptions):
        scores_channels = method.criterion in ("bn_gamma", "taylor")
        return "criterion" if scores_channels and _needs(method) else "ratio"
    fields = {"share_weights": "groups", "convolve": "to", "factorize": "energy", "cluster": "clusters"}
    return fields.get(method.method, "method")


def _needs(method: PruneOptions) -> bool:
    return method.structure == "unstructured" or method.criterion == "bn_gamma"


def _checked(network: Network, method: str, limits: SizeLimits) -> Network:
    """Return the network if its layers fit together and it is not too large."""
    try:
        trace(network, limits=limits)
    except ShapeMismatchError as wrong:
        raise MethodNotApplicableError(
            f"After {method} the layers no longer fit together: {wrong.detail}", hint=wrong.hint
        ) from None
    return network


def _check_kernels(network: Network) -> None:
    if not kernels_of(trace(network).variables):
        raise MethodNotApplicableError("The network has no kernel whose weights could be clustered.")


def _check_float(source: Source) -> None:
    """Raise when the numbers of a version have fewer bits already."""
    made_by = source.manifest.method
    if made_by == "quantize" or (made_by == "chain" and source.network is None):
        with pointing_at(_PARENT):
            raise _without_float(source)
    if made_by == "cascade":
        with pointing_at(_PARENT):
            raise MethodNotApplicableError(
                f"{source.reference} is a cascade, whose thresholds belong to its members as they are.",
                hint="Quantize the members, and make a cascade of them.",
            )


def layers_of(source: Source) -> Network:
    """Return a version's layers; raise MethodNotApplicableError when it has none that could be changed."""
    if source.network is not None:
        return source.network
    if source.manifest.kind == "ensemble":
        raise MethodNotApplicableError(
            f"{source.reference} is an ensemble, which has no layers of its own to change.",
            hint="Name a single model, or distill the ensemble into one.",
        )
    if source.manifest.method in ("quantize", "chain"):
        raise _without_float(source)
    raise MethodNotApplicableError(
        f"{source.reference} has no layers that Leanfuse knows.", hint="Name a model that Leanfuse trained."
    )


def _without_float(source: Source) -> MethodNotApplicableError:
    name, _, version = source.reference.partition("/")
    return MethodNotApplicableError(
        f"{source.reference} is quantized: it has no float weights left to change.",
        hint=f"Name its own parent; GET /v1/models/{name}/versions/{version}/lineage tells which.",
    )
