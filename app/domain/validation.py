"""Decide whether a job spec can work, before anything is written: syntax by pydantic, the rest by arithmetic."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain import errors
from app.domain.datasets import DatasetManifest, DatasetSchema
from app.domain.errors import FieldError, InvalidInputError, LeanfuseError
from app.domain.explain import explain_validation, suggest
from app.domain.models import VersionManifest
from app.domain.names import Reference, check_name, parse_reference
from app.domain.network import SizeLimits, Trace, trace
from app.domain.optimize_specs import Chain, Convolve, Distill, ShareWeights
from app.domain.presets import Architecture, build_network
from app.domain.specs import (
    EnsembleSpec,
    JobSpec,
    Member,
    NewMember,
    OptimizeSpec,
    RegisteredMember,
    SearchSpec,
    Serial,
    Stack,
    TrainSpec,
    job_spec_adapter,
)
from app.domain.training_specs import TrainingSpec, check_training


class KnownVersion(NamedTuple):
    """A registered version that a spec refers to."""

    name: str
    version: int
    state: str
    manifest: VersionManifest


class Catalogue(Protocol):
    """Know what is registered."""

    def dataset(self, name: str) -> DatasetManifest | None:
        """Return a data set by name, or None."""
        ...

    def dataset_names(self) -> Sequence[str]:
        """Return all names, to suggest the nearest."""
        ...

    def version(self, reference: Reference) -> KnownVersion | None:
        """Return the version that a reference names now, or None."""
        ...


class Estimate(BaseModel):
    """Say what a job will cost, by arithmetic alone."""

    model_config = ConfigDict(frozen=True)

    parameters: int = Field(description="Parameters of all networks that are trained, shared ones counted once.")
    largest_parameters: int = Field(description="Parameters of the largest network that is trained.")
    macs: int = Field(description="Multiplications and additions of all trained networks for one row.")
    optimizer_steps: int = Field(description="Steps of the optimizer when no training stops early.")
    trainings: int = Field(description="Networks that are trained from the spec; cross-validation trains more.")


class CheckedSpec(NamedTuple):
    """A spec that can work: every reference pinned to a version, and what it will cost."""

    spec: JobSpec
    estimate: Estimate
    dataset: DatasetManifest


class _Network(NamedTuple):
    pointer: str
    architecture: Architecture
    training: TrainingSpec


def parse_job_spec(body: bytes | str) -> JobSpec:
    """Read a job spec from JSON; raise the InvalidInputError that names each wrong field."""
    try:
        return job_spec_adapter.validate_json(body)
    except ValidationError as invalid:
        raise explain_validation(invalid.errors(include_url=False), job_spec_schema()) from None


@cache
def job_spec_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of a job spec."""
    return job_spec_adapter.json_schema()


def check_spec(spec: JobSpec, catalogue: Catalogue, *, limits: SizeLimits) -> CheckedSpec:
    """Raise what makes the spec impossible; else return it with its references pinned (`name/3`) and an estimate."""
    manifest = catalogue.dataset(spec.dataset)
    if manifest is None:
        raise _missing_dataset(spec.dataset, catalogue.dataset_names())
    schema = manifest.dataset_schema
    _check_own_name(spec)
    pinned = {pointer: _check_reference(spec, pointer, text, schema, catalogue) for pointer, text in references(spec)}
    networks = list(_networks(spec))
    for pointer, training in _trainings(spec):
        check_training(training, schema, pointer=pointer)
    _check_batches(networks, schema)
    traces = [_trace(network, schema, limits) for network in networks]
    return CheckedSpec(_pin(spec, pinned), _estimate(networks, traces, schema), manifest)


def references(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """Yield the pointer and text of every model that the spec refers to."""
    if isinstance(spec, OptimizeSpec):
        if isinstance(spec.method, Distill):
            yield "/method/teacher", spec.method.teacher
        elif spec.method.parent is not None:
            yield "/method/parent", spec.method.parent
    elif isinstance(spec, EnsembleSpec):
        for index, member in enumerate(spec.method.members):
            if isinstance(member, RegisteredMember):
                yield f"/method/members/{index}/model", member.model


def new_members(spec: EnsembleSpec) -> Iterator[tuple[int, TrainSpec]]:
    """Yield the position and the job of every member that is trained on its own, before the ensemble is fused.

    Serial members are not: each learns what the ones before it get wrong, within the ensemble's job.
    """
    if isinstance(spec.method, Serial):
        return
    for index, member in enumerate(spec.method.members):
        if isinstance(member, NewMember):
            yield index, _member_spec(spec, index, member)


def _member_spec(spec: EnsembleSpec, index: int, member: NewMember) -> TrainSpec:
    return TrainSpec(
        kind="train",
        name=f"{spec.name}-m{index}",
        dataset=spec.dataset,
        architecture=member.architecture,
        training=member.training or spec.training,
        seed=member.seed,
        tags=spec.tags,
        priority=spec.priority,
        reuse=spec.reuse,
        max_runtime_seconds=spec.max_runtime_seconds,
    )


def _missing_dataset(name: str, known: Sequence[str]) -> errors.DatasetNotFoundError:
    kind = errors.DatasetNotFoundError
    field = FieldError("/dataset", f"There is no data set {name!r}.", kind.slug)
    hint = suggest(name, known) or 'POST /v1/datasets registers one, `{"builtin": "digits"}` for example.'
    return kind(field.detail, hint=hint, errors=[field])


def _check_own_name(spec: JobSpec) -> None:
    if isinstance(spec, EnsembleSpec):
        with _at("/name"):
            check_name(f"{spec.name}-m{len(spec.method.members)}")


def _check_reference(spec: JobSpec, pointer: str, text: str, schema: DatasetSchema, catalogue: Catalogue) -> str:
    with _at(pointer):
        reference = parse_reference(text)
        if isinstance(spec, EnsembleSpec) and reference.name == spec.name:
            raise errors.InvalidEnsembleError("An ensemble cannot be its own member.", hint="Give it another name.")
        known = catalogue.version(reference)
        if known is None:
            raise errors.ReferenceNotFoundError(f"There is no model {text!r}.", hint="GET /v1/models lists them.")
        if known.state not in ("ready", "deprecated", "rejected"):
            raise errors.ModelNotReadyError(f"{text!r} is {known.state}.", hint="Name another version.")
        _check_kind(spec, known)
        _check_fit(known, schema)
        return f"{known.name}/{known.version}"


def _check_kind(spec: JobSpec, known: KnownVersion) -> None:
    restructures = isinstance(spec, OptimizeSpec) and isinstance(spec.method, ShareWeights | Convolve)
    retrains = isinstance(spec, EnsembleSpec) and isinstance(spec.method, Stack)
    if known.manifest.kind == "ensemble" and restructures:
        raise errors.InvalidRequestError(
            f"{known.name!r} is an ensemble, which has no layers of its own to change.",
            hint="Name a single model, or distill the ensemble into one.",
        )
    if known.manifest.kind == "ensemble" and retrains:
        raise errors.InvalidEnsembleError(
            f"{known.name!r} is an ensemble; stacking trains its members again for every fold.",
            hint="Name single models, or fuse with `parallel`.",
        )


def _check_fit(known: KnownVersion, schema: DatasetSchema) -> None:
    manifest = known.manifest
    answers = _answers(manifest.task, manifest.classes)
    has = f"{known.name}/{known.version} takes {list(manifest.input.shape)} for {answers}"
    needs = f"the data set has {list(schema.shape)} for {_answers(schema.task, schema.classes)}"
    if (manifest.input.shape, manifest.task, manifest.classes) != (schema.shape, schema.task, schema.classes):
        raise errors.ShapeMismatchError(f"{has}, {needs}.", hint="Name a model of the same data set.")


def _answers(task: str, classes: Sequence[str]) -> str:
    if task == "regression":
        return "regression"
    return f"{len(classes)} classes ({', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''})"


def _networks(spec: JobSpec) -> Iterator[_Network]:
    """Yield every network that is trained as the spec describes it."""
    if isinstance(spec, TrainSpec):
        yield _Network("/architecture", spec.architecture, spec.training)
    elif isinstance(spec, OptimizeSpec):
        if isinstance(spec.method, Distill):
            yield _Network("/method/student", spec.method.student, spec.training)
        elif isinstance(spec.method, ShareWeights) and spec.method.architecture is not None:
            yield _Network("/method/architecture", spec.method.architecture, spec.training)
    elif isinstance(spec, SearchSpec):
        yield _Network("/architecture", spec.architecture, spec.training)
    else:
        members: Sequence[Member] = spec.method.members
        for index, member in enumerate(members):
            if isinstance(member, NewMember):
                pointer = f"/method/members/{index}/architecture"
                yield _Network(pointer, member.architecture, member.training or spec.training)


def _trainings(spec: JobSpec) -> Iterator[tuple[str, TrainingSpec]]:
    """Yield every training that the spec describes, and where."""
    yield "/training", spec.training
    if isinstance(spec, OptimizeSpec) and isinstance(spec.method, Chain):
        for index, step in enumerate(spec.method.steps):
            if step.training is not None:
                yield f"/method/steps/{index}/training", step.training
    elif isinstance(spec, EnsembleSpec):
        for index, member in enumerate(spec.method.members):
            if isinstance(member, NewMember) and member.training is not None:
                yield f"/method/members/{index}/training", member.training


def _check_batches(networks: Sequence[_Network], schema: DatasetSchema) -> None:
    rows = schema.rows["train"]
    for network in networks:
        if network.training.batch_size > rows:
            raise errors.OutOfRangeError(
                f"A batch of {network.training.batch_size:,} rows is more than the {rows:,} training rows.",
                hint=f"Allowed: at least 1 and at most {rows:,}.",
                errors=[
                    FieldError("/training/batch_size", "Larger than the training set.", errors.OutOfRangeError.slug)
                ],
            )


def _trace(network: _Network, schema: DatasetSchema, limits: SizeLimits) -> Trace:
    with _at(network.pointer):
        return trace(build_network(network.architecture, schema), limits=limits)


def _estimate(networks: Sequence[_Network], traces: Sequence[Trace], schema: DatasetSchema) -> Estimate:
    rows = schema.rows["train"]
    return Estimate(
        parameters=sum(found.parameters for found in traces),
        largest_parameters=max((found.parameters for found in traces), default=0),
        macs=sum(found.macs for found in traces),
        optimizer_steps=sum(item.training.epochs * -(-rows // item.training.batch_size) for item in networks),
        trainings=len(networks),
    )


def _pin(spec: JobSpec, pinned: Mapping[str, str]) -> JobSpec:
    body = spec.model_dump(mode="json")
    for pointer, text in pinned.items():
        *path, last = pointer.strip("/").split("/")
        target: Any = body
        for step in path:
            target = target[int(step)] if isinstance(target, list) else target[step]
        target[last] = text
    return job_spec_adapter.validate_python(body, strict=False)


@contextmanager
def _at(pointer: str) -> Iterator[None]:
    """Let errors that do not say where they occurred point here."""
    try:
        yield
    except (InvalidInputError, errors.ConflictError) as wrong:
        if wrong.errors:
            raise
        raise _pointed(wrong, pointer) from None


def _pointed(wrong: LeanfuseError, pointer: str) -> LeanfuseError:
    return type(wrong)(wrong.detail, hint=wrong.hint, errors=[FieldError(pointer, wrong.detail, wrong.slug)])
