"""Decide whether a job spec can work, before anything is written: syntax by pydantic, the rest by arithmetic."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain import errors
from app.domain.alignment import class_order
from app.domain.applicable import Planned, Source, check_applicable, check_seeds
from app.domain.datasets import DatasetManifest, DatasetSchema
from app.domain.ensemble_checks import check_fusion
from app.domain.ensemble_specs import (
    MOST_MEMBERS,
    FineTunedMember,
    NewMember,
    Parallel,
    RegisteredMember,
    Serial,
    Snapshot,
    Soup,
    Stack,
)
from app.domain.errors import FieldError
from app.domain.explain import explain_validation, suggest
from app.domain.member_jobs import count_of, expand_members, listed_members
from app.domain.models import Link, VersionManifest
from app.domain.names import Reference, check_name, parse_reference
from app.domain.network import Network, SizeLimits, trace
from app.domain.optimize_specs import Chain, Distill
from app.domain.pointing import pointing_at
from app.domain.presets import Architecture, build_network
from app.domain.search import check_space
from app.domain.snapshots import check_cycles
from app.domain.soup import ANCESTOR, check_soup
from app.domain.specs import (
    EnsembleSpec,
    ImportSpec,
    JobSpec,
    OptimizeSpec,
    SearchSpec,
    SubmittedSpec,
    TrainSpec,
    job_spec_adapter,
    posted_spec_adapter,
)
from app.domain.then import check_then, student_name
from app.domain.training_specs import TrainingSpec, check_training
from app.domain.transfer import check_same_rows, check_transfer, distillations, unlabelled_of


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

    def version(self, reference: Reference | Link) -> KnownVersion | None:
        """Return the version that a reference names now or a link points to, or None."""
        ...

    def network(self, known: KnownVersion) -> Network | None:
        """Return a version's layers, or None where it has none of its own."""
        ...


class Estimate(BaseModel):
    """Say what a job will cost, by arithmetic alone."""

    model_config = ConfigDict(frozen=True)

    parameters: int = Field(description="Parameters of all networks that are trained, shared ones counted once.")
    largest_parameters: int = Field(description="Parameters of the largest network that is trained.")
    macs: int = Field(description="Multiplications and additions of all trained networks for one row.")
    optimizer_steps: int = Field(description="Steps of the optimizer when no training stops early.")
    trainings: int = Field(
        description="Trainings of networks, repeats, controls and trials included; cross-validation trains more."
    )


class CheckedSpec(NamedTuple):
    """A spec that can work: every reference pinned to a version, and what it will cost."""

    spec: JobSpec
    estimate: Estimate
    dataset: DatasetManifest


class _Described(NamedTuple):
    """A network that the spec describes: where, how it is trained, and how often."""

    pointer: str
    architecture: Architecture
    training: TrainingSpec
    training_pointer: str = "/training"
    times: int = 1


def parse_job_spec(body: bytes | str) -> SubmittedSpec:
    """Read a job spec from JSON; raise the InvalidInputError that names each wrong field."""
    try:
        return posted_spec_adapter.validate_json(body)
    except ValidationError as invalid:
        _refuse_import(invalid)
        raise explain_validation(invalid.errors(include_url=False), job_spec_schema()) from None


def _refuse_import(invalid: ValidationError) -> None:
    if any(item.get("ctx", {}).get("tag") == "import" for item in invalid.errors(include_url=False)):
        field = FieldError("/kind", "An import starts from a file.", errors.UnknownComponentError.slug)
        hint = "POST /v1/models takes the file, and makes the job."
        raise errors.UnknownComponentError(field.detail, hint=hint, errors=[field])


@cache
def job_spec_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of a job spec that may be posted."""
    return posted_spec_adapter.json_schema()


def check_spec(spec: JobSpec, catalogue: Catalogue, *, limits: SizeLimits) -> CheckedSpec:
    """Raise what makes the spec impossible; else return it with its references pinned (`name/3`) and an estimate."""
    manifest = catalogue.dataset(spec.dataset)
    if manifest is None:
        raise missing_dataset(spec.dataset, catalogue.dataset_names())
    schema = manifest.dataset_schema
    _check_labelled(spec.dataset, schema)
    _check_own_name(spec)
    _check_classes(spec, schema)
    known = {pointer: _check_reference(spec, pointer, text, schema, catalogue) for pointer, text in references(spec)}
    for pointer, training in _trainings(spec):
        check_training(training, schema, pointer=pointer)
    check_seeds(spec)
    _check_transfers(spec, schema, catalogue)
    if isinstance(spec, EnsembleSpec):
        check_fusion(spec, schema)
    if isinstance(spec, OptimizeSpec):
        planned = check_applicable(spec, _source(known, catalogue), schema, limits=limits)
    elif isinstance(spec, EnsembleSpec) and isinstance(spec.method, Soup):
        planned = _check_soup(spec, spec.method, known, catalogue)
    else:
        planned = [_plan(described, schema, limits) for described in _described(spec)]
    if isinstance(spec, EnsembleSpec):
        _check_least(spec)
        planned += check_then(spec, schema, limits=limits)
    _check_batches(planned, schema)
    if isinstance(spec, SearchSpec):
        check_space(spec, schema, limits=limits)
    pinned = {pointer: f"{version.name}/{version.version}" for pointer, version in known.items()}
    pinned_spec = _pin(spec, pinned)
    complete = expand_members(pinned_spec) if isinstance(pinned_spec, EnsembleSpec) else pinned_spec
    return CheckedSpec(complete, _estimate(planned, schema, repeats=spec.seeds), manifest)


def references(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """Yield the pointer and text of every model that the spec refers to."""
    if isinstance(spec, OptimizeSpec):
        if isinstance(spec.method, Distill):
            yield "/method/teacher", spec.method.teacher
        elif spec.method.parent is not None:
            yield "/method/parent", spec.method.parent
    elif isinstance(spec, EnsembleSpec):
        if isinstance(spec.method, Soup):
            yield ANCESTOR, spec.method.ancestor
        for index, member in enumerate(listed_members(spec)):
            if isinstance(member, RegisteredMember):
                yield f"/method/members/{index}/model", member.model


def missing_dataset(name: str, known: Sequence[str], *, pointer: str = "/dataset") -> errors.DatasetNotFoundError:
    """Return the error that says that there is no such data set, and which is like it."""
    kind = errors.DatasetNotFoundError
    field = FieldError(pointer, f"There is no data set {name!r}.", kind.slug)
    hint = suggest(name, known) or 'POST /v1/datasets registers one, `{"builtin": "digits"}` for example.'
    return kind(field.detail, hint=hint, errors=[field])


def _check_labelled(name: str, schema: DatasetSchema) -> None:
    if schema.task == "unlabelled":
        detail = f"The rows of {name!r} have no labels, so nothing can be trained or measured on them."
        kind = errors.InvalidRequestError
        hint = "Name a data set with labels, and this one as `transfer.unlabelled` of a distillation."
        raise kind(detail, hint=hint, errors=[FieldError("/dataset", detail, kind.slug)])


def _check_own_name(spec: JobSpec) -> None:
    if isinstance(spec, EnsembleSpec):
        with pointing_at("/name"):
            check_name(f"{spec.name}-m{count_of(spec)}")
            if spec.members_at_once != 1:
                check_name(f"{spec.name}-members")
            if spec.then is not None:
                check_name(student_name(spec))


def _check_least(spec: EnsembleSpec) -> None:
    """Raise when an ensemble is to make do with fewer members, and has not so many or cannot."""
    members = count_of(spec)
    with pointing_at("/method/members"):
        if members > MOST_MEMBERS:
            raise errors.InvalidEnsembleError(f"{members} members are too many.", hint=f"At most {MOST_MEMBERS}.")
    if spec.min_members is None:
        return
    with pointing_at("/min_members"):
        if not isinstance(spec.method, Parallel | Stack):
            raise errors.InvalidEnsembleError(
                f"A {spec.method.method} ensemble needs all of its members.", hint="Leave out `min_members`."
            )
        if spec.min_members > members:
            raise errors.InvalidEnsembleError(
                f"At least {spec.min_members} members are wanted, and there are {members}.",
                hint=f"Choose at most {members}.",
            )


def _check_classes(spec: JobSpec, schema: DatasetSchema) -> None:
    if isinstance(spec, ImportSpec) and spec.classes is not None:
        with pointing_at("/classes"):
            class_order(spec.classes, schema.classes, whose="`classes`")


def _check_reference(
    spec: JobSpec, pointer: str, text: str, schema: DatasetSchema, catalogue: Catalogue
) -> KnownVersion:
    with pointing_at(pointer):
        reference = parse_reference(text)
        if isinstance(spec, EnsembleSpec) and reference.name == spec.name and pointer != ANCESTOR:
            raise errors.InvalidEnsembleError("An ensemble cannot be its own member.", hint="Give it another name.")
        known = catalogue.version(reference)
        if known is None:
            raise errors.ReferenceNotFoundError(f"There is no model {text!r}.", hint="GET /v1/models lists them.")
        if known.state not in ("ready", "deprecated", "rejected"):
            raise errors.ModelNotReadyError(f"{text!r} is {known.state}.", hint="Name another version.")
        _check_kind(spec, known)
        _check_fit(known, schema, any_order=isinstance(spec, EnsembleSpec))
        return known


def _check_kind(spec: JobSpec, known: KnownVersion) -> None:
    retrains = isinstance(spec, EnsembleSpec) and isinstance(spec.method, Stack)
    if known.manifest.kind == "ensemble" and retrains:
        raise errors.InvalidEnsembleError(
            f"{known.name!r} is an ensemble; stacking trains its members again for every fold.",
            hint="Name single models, or fuse with `parallel`.",
        )
    if known.manifest.method == "import" and retrains:
        raise errors.InvalidEnsembleError(
            f"{known.name!r} was imported: stacking trains its members again for every fold, and a file cannot be.",
            hint="Name models that Leanfuse trained, or fuse with `parallel`.",
        )


def _check_fit(known: KnownVersion, schema: DatasetSchema, *, any_order: bool) -> None:
    """Raise ShapeMismatchError when a version does not fit the data set; `any_order` lets labels match by name."""
    manifest = known.manifest
    if any_order and (manifest.input.shape, manifest.task) == (schema.shape, schema.task):
        class_order(manifest.classes, schema.classes, whose=f"{known.name}/{known.version}")
        return
    answers = _answers(manifest.task, manifest.classes)
    has = f"{known.name}/{known.version} takes {list(manifest.input.shape)} for {answers}"
    needs = f"the data set has {list(schema.shape)} for {_answers(schema.task, schema.classes)}"
    if (manifest.input.shape, manifest.task, manifest.classes) != (schema.shape, schema.task, schema.classes):
        raise errors.ShapeMismatchError(f"{has}, {needs}.", hint="Name a model of the same data set.")


def _answers(task: str, classes: Sequence[str]) -> str:
    if task == "regression":
        return "regression"
    return f"{len(classes)} classes ({', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''})"


def _source(known: Mapping[str, KnownVersion], catalogue: Catalogue) -> Source | None:
    """Return the parent or teacher with its layers; None when the method trains an architecture of its own."""
    for version in known.values():
        return _source_of(version, catalogue)
    return None


def _source_of(version: KnownVersion, catalogue: Catalogue) -> Source:
    return Source(f"{version.name}/{version.version}", version.manifest, catalogue.network(version))


def _check_soup(
    spec: EnsembleSpec, method: Soup, known: Mapping[str, KnownVersion], catalogue: Catalogue
) -> list[Planned]:
    def find(link: Link) -> VersionManifest | None:
        found = catalogue.version(link)
        return found.manifest if found else None

    sources = {pointer: _source_of(version, catalogue) for pointer, version in known.items()}
    return check_soup(spec, method, sources, find)


def _described(spec: TrainSpec | EnsembleSpec | SearchSpec | ImportSpec) -> Iterator[_Described]:
    """Yield every network that is trained as the spec describes it."""
    if isinstance(spec, TrainSpec):
        yield _Described("/architecture", spec.architecture, spec.training, times=2 if spec.leak_check else 1)
    elif isinstance(spec, SearchSpec):
        yield _Described("/architecture", spec.architecture, spec.training, times=spec.trials)
    elif isinstance(spec, ImportSpec):
        return
    elif isinstance(spec.method, Snapshot):
        check_cycles(spec.training)
        yield _Described("/method/architecture", spec.method.architecture, spec.training, times=spec.method.cycles)
    else:
        rounds = (spec.method.rounds or 1) if isinstance(spec.method, Serial) else 1
        for index, member in enumerate(listed_members(spec)):
            if isinstance(member, NewMember):
                place = f"/method/members/{index}"
                own = f"{place}/training" if member.training else "/training"
                training = member.training or spec.training
                yield _Described(
                    f"{place}/architecture", member.architecture, training, own, times=member.count * rounds
                )


def _trainings(spec: JobSpec) -> Iterator[tuple[str, TrainingSpec]]:
    """Yield every training that the spec describes, and where."""
    yield "/training", spec.training
    if isinstance(spec, OptimizeSpec) and isinstance(spec.method, Chain):
        for index, step in enumerate(spec.method.steps):
            if step.training is not None:
                yield f"/method/steps/{index}/training", step.training
    elif isinstance(spec, EnsembleSpec):
        for index, member in enumerate(listed_members(spec)):
            if isinstance(member, NewMember | FineTunedMember) and member.training is not None:
                yield f"/method/members/{index}/training", member.training
        if spec.then is not None and spec.then.training is not None:
            yield "/then/training", spec.then.training


def _check_transfers(spec: JobSpec, schema: DatasetSchema, catalogue: Catalogue) -> None:
    """Check what distillations take rows from: data sets of the same kind of rows, one of them for the whole job."""
    for pointer, method, training in distillations(spec):
        check_transfer(method, training, schema, pointer=pointer)
    names = unlabelled_of(spec)
    for pointer, name in names.items():
        other = catalogue.dataset(name)
        if other is None:
            raise missing_dataset(name, catalogue.dataset_names(), pointer=pointer)
        with pointing_at(pointer):
            check_same_rows(schema, other.dataset_schema, name)
            if len(set(names.values())) > 1:
                raise errors.InvalidRequestError(
                    f"The steps name several unlabelled data sets: {', '.join(sorted(set(names.values())))}.",
                    hint="One job takes rows from one of them.",
                )


def _plan(described: _Described, schema: DatasetSchema, limits: SizeLimits) -> Planned:
    with pointing_at(described.pointer):
        network = build_network(described.architecture, schema)
        trace(network, limits=limits)
    return Planned(network, described.training, described.training_pointer, described.times)


def _check_batches(planned: Sequence[Planned], schema: DatasetSchema) -> None:
    rows = schema.rows["train"]
    for item in planned:
        if item.training.batch_size > rows:
            kind = errors.OutOfRangeError
            raise kind(
                f"A batch of {item.training.batch_size:,} rows is more than the {rows:,} training rows.",
                hint=f"Allowed: at least 1 and at most {rows:,}.",
                errors=[FieldError(f"{item.pointer}/batch_size", "Larger than the training set.", kind.slug)],
            )


def _estimate(planned: Sequence[Planned], schema: DatasetSchema, *, repeats: int) -> Estimate:
    rows = schema.rows["train"]
    traces = [trace(item.network) for item in planned]
    steps = [item.times * item.training.epochs * -(-rows // item.training.batch_size) for item in planned]
    return Estimate(
        parameters=sum(found.parameters for found in traces),
        largest_parameters=max((found.parameters for found in traces), default=0),
        macs=sum(found.macs for found in traces),
        optimizer_steps=repeats * sum(steps),
        trainings=repeats * sum(item.times for item in planned),
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
