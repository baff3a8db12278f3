"""The failure model of Leanfuse. Leaves that are not named here are in the sister files: error_tree.py knows them all.

LeanfuseError
  +- InvalidInputError (422)        what was sent can never work
  |    +- InvalidRequestError         fields that break their bounds, one FieldError each
  |    +- UnknownFieldError
  |    +- UnknownComponentError       a name outside the allowed list
  |    +- OutOfRangeError
  |    +- InvalidNameError
  |    +- InvalidArchitectureError    layers that do not fit together
  |    +- ModelTooLargeError
  |    +- ShapeMismatchError          model, teacher, member or input of another shape
  |    +- InvalidEnsembleError
  |    +- DatasetNotFoundError        a spec names a data set that does not exist
  |    +- ReferenceNotFoundError      a spec names a model that does not exist
  |    +- UnreadableFileError         one leaf for each way an upload breaks (upload_errors.py)
  |    +- what an uploaded graph may break (import_errors.py), what a prediction's input may (prediction_errors.py),
  |       and what JSON may not hold (request_errors.py)
  +- MalformedRequestError (400)    JSON, keys, page tokens, filters, hosts (request_errors.py), digests of uploads
  +- MethodNotAllowedError (405)    in request_errors.py
  +- UnsupportedMediaTypeError (415)  also of sounds and models (upload_errors.py, import_errors.py)
  +- PayloadTooLargeError (413)     also of archives, images, sounds (upload_errors.py), batches (prediction_errors.py)
  +- PredictionTimeoutError (504)   in prediction_errors.py
  +- NotSupportedError (501)
  +- NotFoundError (404)
  |    +- ModelNotFoundError
  |    +- ModelDeletedError (410)
  |    +- JobNotFoundError
  +- ConflictError (409)
  |    +- AlreadyExistsError
  |    +- JobAlreadyFinishedError
  |    +- ResultNotReadyError
  |    +- ModelNotReadyError
  |    +- VersionRejectedError        it failed its gate, so no name without a number leads to it
  |    +- StillReferencedError
  |    +- GateNotMetError             a candidate does not meet the conditions of its promotion
  |    +- IdempotencyInProgressError  in request_errors.py
  +- PreconditionFailedError (412)
  +- RangeNotSatisfiableError (416) in request_errors.py
  +- UnavailableError (503)
  |    +- DatabaseUnavailableError
  |    +- DatasetUnavailableError     a builtin whose files or package are missing here
  |    +- OverloadedError
  |    +- ModelLoadingError           in prediction_errors.py
  |    +- StoreUnavailableError       in store_errors.py
  |    +- ArtifactCorruptedError
  |    +- UnreachableError            told by the client alone
  +- JobError                       a job started and failed; job.error carries it (its leaves are in job_errors.py;
                                     one of them, MethodNotApplicableError (422), also refuses a job's spec)
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class FieldError(NamedTuple):
    """Point at one wrong field: an RFC 6901 pointer, what is wrong with it, and a slug of the kind of error."""

    pointer: str
    detail: str
    type: str


class LeanfuseError(Exception):
    """Say what happened (`detail`), how to mend it (`hint`) and where (`errors`).

    A class says for all of its kind what to do (`remedy`); an error without a hint of its own gives that.
    """

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong inside Leanfuse"
    remedy: ClassVar[str] = (
        "Try it once more. If it fails again, look for the request_id in the server's log, and report it with both."
    )
    code: ClassVar[int] = 500

    def __init__(self, detail: str, *, hint: str = "", errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint or self.remedy
        self.errors = tuple(errors)


class InvalidInputError(LeanfuseError):
    """What was sent can never work, however often it is repeated."""

    slug = "invalid-input"
    title = "The input is not valid"
    remedy = "Change what `detail` and `errors` name, then send it again; the same request will always fail."
    code = 422


class InvalidRequestError(InvalidInputError):
    """Fields break their bounds; `errors` names each."""

    slug = "invalid-request"
    title = "The request does not fit its schema"
    remedy = (
        "Mend each field that `errors` points at: its `detail` says what was expected. `/docs` shows a body that works."
    )


class UnknownFieldError(InvalidInputError):
    """A field that does not exist was sent."""

    slug = "unknown-field"
    title = "There is no such field"
    remedy = "Leave the field out, or write it as one of the names that the hint lists."


class UnknownComponentError(InvalidInputError):
    """A kind, method, layer, optimizer or preset is not among the known ones."""

    slug = "unknown-component"
    title = "There is no such component"
    remedy = "Choose one of the names that the hint lists. A model that only others can build may be imported as ONNX."


class OutOfRangeError(InvalidInputError):
    """A number lies outside its allowed range."""

    slug = "out-of-range"
    title = "A value is out of its range"
    remedy = "Choose a value inside the range that the hint tells."


class InvalidNameError(InvalidInputError):
    """A name breaks the naming rule."""

    slug = "invalid-name"
    title = "The name is not valid"
    remedy = (
        "Use 1 to 63 of a-z, 0-9, dot, dash and underscore, with a letter or digit first and last, and no two dots in "
        "a row."
    )


class InvalidArchitectureError(InvalidInputError):
    """The layers do not fit together."""

    slug = "invalid-architecture"
    title = "The architecture cannot be built"
    remedy = (
        "Change the layer that `detail` names, so that what the layer before gives is what it takes. `POST "
        "/v1/jobs?validate_only=true` checks a spec without training it."
    )


class ModelTooLargeError(InvalidInputError):
    """The architecture has more parameters or layers than the service accepts."""

    slug = "model-too-large"
    title = "The model is too large"
    remedy = (
        "Choose fewer or narrower layers. Whoever runs the service can raise `LEANFUSE_LIMITS__PARAMETERS` and "
        "`__LAYERS`."
    )


class ShapeMismatchError(InvalidInputError):
    """A model, teacher, member or row does not have the shape that is needed."""

    slug = "shape-mismatch"
    title = "The shapes do not match"
    remedy = (
        "Choose a data set or model with the shape that `detail` names; `GET /v1/datasets/NAME` and `/v1/models/NAME` "
        "show theirs."
    )


class InvalidEnsembleError(InvalidInputError):
    """The members or weights cannot form an ensemble."""

    slug = "invalid-ensemble"
    title = "The ensemble is not valid"
    remedy = (
        "Name at least two members with distinct recipes, and weights (if any) that are not negative and not all 0."
    )


class DatasetNotFoundError(InvalidInputError):
    """A spec names a data set that does not exist."""

    slug = "dataset-not-found"
    title = "There is no such data set"
    remedy = "Choose a name that `GET /v1/datasets` lists, or add the data set first with `POST /v1/datasets`."


class ReferenceNotFoundError(InvalidInputError):
    """A spec names a model, version or alias that does not exist."""

    slug = "reference-not-found"
    title = "There is no such model to build on"
    remedy = "Choose a model that `GET /v1/models` lists: `name`, `name@alias` or `name/version`; or train it first."


class UnreadableFileError(InvalidInputError):
    """An uploaded file cannot be read as a data set."""

    slug = "unreadable-file"
    title = "The file cannot be read"
    remedy = "Open the file with the program that made it, save it again in one of the accepted formats, and send that."


class MalformedRequestError(LeanfuseError):
    """The bytes of the request are not what they claim to be."""

    slug = "malformed-request"
    title = "The request is malformed"
    remedy = "Send the request with an HTTP client that builds the body itself; `/docs` shows one that works."
    code = 400


class UnsupportedMediaTypeError(LeanfuseError):
    """The content type or file format is not accepted here."""

    slug = "unsupported-media-type"
    title = "The media type is not supported"
    remedy = "Send one of the types that the hint lists, and name it in `Content-Type`."
    code = 415


class PayloadTooLargeError(LeanfuseError):
    """The body, batch or archive is larger than the limit, which the message names."""

    slug = "payload-too-large"
    title = "The payload is too large"
    remedy = (
        "Send less at a time. Whoever runs the service can raise the limit that `detail` names "
        "(`LEANFUSE_LIMITS__...`)."
    )
    code = 413


class NotFoundError(LeanfuseError):
    """The path names nothing that exists."""

    slug = "not-found"
    title = "Not found"
    remedy = (
        "Check the path for typing errors; `/docs` lists every path, and the lists (`GET /v1/models`, ...) every name."
    )
    code = 404


class ModelNotFoundError(NotFoundError):
    """No model, version or alias has that name."""

    slug = "model-not-found"
    title = "There is no such model"
    remedy = "Choose a name that `GET /v1/models` lists; `GET /v1/models/NAME` shows its aliases and newest version."


class JobNotFoundError(NotFoundError):
    """No job has that id."""

    slug = "job-not-found"
    title = "There is no such job"
    remedy = "Choose an id that `GET /v1/jobs` lists. Jobs of ensembles' members are listed with `?children=true`."


class ConflictError(LeanfuseError):
    """The present state forbids the request."""

    slug = "conflict"
    title = "The present state forbids this"
    remedy = "Look at the present state of what you wanted to change, and decide again."
    code = 409


class AlreadyExistsError(ConflictError):
    """The name is taken."""

    slug = "already-exists"
    title = "The name is taken"
    remedy = "Choose another name, or use what is there."


class JobAlreadyFinishedError(ConflictError):
    """A finished job never changes."""

    slug = "job-already-finished"
    title = "The job has finished already"
    remedy = "Nothing is left to do. `POST /v1/jobs/ID:retry` submits a failed or cancelled job again."


class ModelNotReadyError(ConflictError):
    """The version exists but cannot serve."""

    slug = "model-not-ready"
    title = "The model is not ready"
    remedy = (
        "Wait until the job that makes the version has succeeded, or choose a version that `GET "
        "/v1/models/NAME/versions` lists."
    )


class VersionRejectedError(ConflictError):
    """A version failed its gate, and was not asked for by its number."""

    slug = "version-rejected"
    title = "The version was rejected"
    remedy = (
        "Read its report, then name the version by its number if you want it all the same, or train it again with "
        "milder settings."
    )


class StillReferencedError(ConflictError):
    """An alias, ensemble or job still refers to it."""

    slug = "still-referenced"
    title = "It is still in use"
    remedy = "Move the alias, or delete what refers to it first: `GET .../lineage` lists what does."


class GateNotMetError(ConflictError):
    """A candidate does not meet the conditions of its promotion; `errors` names each with what was measured."""

    slug = "gate-not-met"
    title = "The candidate does not meet the conditions"
    remedy = (
        "Compare what was measured with the conditions in `errors`; wait for more traffic, improve the candidate or "
        "relax them."
    )


class ResultNotReadyError(ConflictError):
    """A job has no result to download: it is still at work, or it ended without one."""

    slug = "result-not-ready"
    title = "The job has no result"
    remedy = "Wait until the job is done (`GET /v1/jobs/ID` with `Prefer: wait=20`); submit one that failed again."


class PreconditionFailedError(LeanfuseError):
    """The resource changed since the If-Match value was read."""

    slug = "precondition-failed"
    title = "The resource has changed"
    remedy = (
        "Read the resource again, decide whether your change still makes sense, and send it with the new ETag in "
        "`If-Match`."
    )
    code = 412


class UnavailableError(LeanfuseError):
    """The service cannot answer now; a later try may succeed."""

    slug = "unavailable"
    title = "Not available at present"
    remedy = "Try again after the seconds that `Retry-After` names. `GET /readyz` tells which part does not answer."
    code = 503


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer."""

    slug = "database-unavailable"
    title = "The database does not answer"
    remedy = (
        "Try again in a few seconds. If it lasts, see that the database of `LEANFUSE_DATABASE_URL` runs, and "
        "`leanfuse db upgrade`."
    )


class DatasetUnavailableError(UnavailableError):
    """A builtin data set needs a file or package that is missing on this machine."""

    slug = "dataset-unavailable"
    title = "The data set is not available on this machine"
    remedy = "Put the file or package that `detail` names on this machine, or upload the data set as a file."


class OverloadedError(UnavailableError):
    """More requests wait than the service may queue."""

    slug = "overloaded"
    title = "The service is overloaded"
    remedy = (
        "Try again after `Retry-After` seconds, with fewer requests at once or more rows in each; or add API processes."
    )


class ArtifactCorruptedError(UnavailableError):
    """A stored file no longer has the content that its digest names."""

    slug = "artifact-corrupted"
    title = "A stored artifact is corrupted"
    remedy = "Restore the file from a backup of the store, or train the version again; the log names the digest."


class JobError(LeanfuseError):
    """A job started and failed; the job row carries this error."""

    slug = "job-failed"
    title = "The job failed"
    remedy = "Read the job's `log` events, mend what they name, and submit it again with `POST /v1/jobs/ID:retry`."
    retryable: ClassVar[bool] = False


class MalformedJsonError(MalformedRequestError):
    """The body is not JSON in UTF-8, has a key twice, or is nested too deeply."""

    slug = "malformed-json"
    title = "The body is not valid JSON"
    remedy = "Send one JSON value in UTF-8 with every key once; a JSON formatter finds the place that `detail` names."


class ModelDeletedError(NotFoundError):
    """The version existed and was deleted."""

    slug = "model-deleted"
    title = "The version was deleted"
    remedy = (
        "Choose a version that `GET /v1/models/NAME/versions` lists. Numbers of deleted versions are never used again."
    )
    code = 410


class NotSupportedError(LeanfuseError):
    """The protocol has this, but this service does not."""

    slug = "not-supported"
    title = "This is not supported"
    remedy = "Leave the part out that `detail` names; `docs/protocols.md` lists what each protocol has here."
    code = 501


class UnreachableError(UnavailableError):
    """Nothing answers at the address of the service."""

    slug = "unreachable"
    title = "The service does not answer"
    remedy = "See that the service runs (`leanfuse up`) and that the address is right (`--url` or `LEANFUSE_URL`)."
