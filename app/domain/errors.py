"""The failure model of Leanfuse.

LeanfuseError
  +- InvalidInputError (422)        what was sent can never work
  |    +- InvalidRequestError         fields that break their bounds, one FieldError each
  |    +- UnknownComponentError       a name outside the allowed list
  |    +- OutOfRangeError
  |    +- InvalidNameError
  |    +- InvalidArchitectureError    layers that do not fit together
  |    +- ModelTooLargeError
  |    +- ShapeMismatchError          model, teacher, member or input of another shape
  |    +- InvalidEnsembleError
  |    +- DatasetNotFoundError        a spec names a data set that does not exist
  |    +- ReferenceNotFoundError      a spec names a model that does not exist
  |    +- UnreadableFileError         (its leaves, one for each way an upload breaks, are in upload_errors.py)
  |    |    +- EmptyFileError
  |    |    +- PickleNotAllowedError
  |    |    +- DeclaredSizeMismatchError
  |    |    +- TooManyMembersError
  |    |    +- UnsupportedDtypeError
  |    |    +- UnsupportedArchiveError
  |    |    +- UnsafeArchivePathError
  |    |    +- UnreadableMemberError
  |    |    +- NoSamplesError
  |    |    +- SingleClassError
  |    |    +- LengthMismatchError
  |    |    +- LabelOutOfRangeError
  |    |    +- NonFiniteValuesError
  |    |    +- InvalidCsvError
  |    |    +- InvalidWavError
  |    +- InvalidModelError, UnsafeModelError    an uploaded graph (in import_errors.py)
  |    +- IdempotencyKeyReusedError   (repeated requests and ranges are in request_errors.py)
  |    +- ReadOnlyFieldError
  |    +- NonFiniteNumberError, NumberOutOfRangeError, InvalidStringError
  |    +- InputShapeMismatchError, RaggedInputError, EmptyInputError, InvalidInputValueError (predictions)
  |    +- TaskMismatchError           a model is asked for what another task answers
  +- MalformedRequestError (400)
  |    +- DigestMismatchError
  |    +- MalformedJsonError
  |    +- InvalidIdempotencyKeyError
  |    +- InvalidPageTokenError
  |    +- InvalidFilterError
  |    +- InvalidHostError
  +- MethodNotAllowedError (405)
  +- UnsupportedMediaTypeError (415)
  |    +- UnsupportedWavEncodingError
  |    +- UnsupportedModelFormatError
  +- PayloadTooLargeError (413)
  |    +- DecompressionBombError
  |    +- ImageTooLargeError
  |    +- AudioTooLongError
  |    +- BatchTooLargeError
  +- PredictionTimeoutError (504)
  +- NotSupportedError (501)
  +- NotFoundError (404)
  |    +- ModelNotFoundError
  |    +- ModelDeletedError (410)
  |    +- JobNotFoundError
  +- ConflictError (409)
  |    +- AlreadyExistsError
  |    +- JobAlreadyFinishedError
  |    +- ModelNotReadyError
  |    +- VersionRejectedError        it failed its gate, so no name without a number leads to it
  |    +- StillReferencedError
  |    +- GateNotMetError            a candidate does not meet the conditions of its promotion
  |    +- IdempotencyInProgressError
  +- PreconditionFailedError (412)
  +- RangeNotSatisfiableError (416)
  +- UnavailableError (503)
  |    +- DatabaseUnavailableError
  |    +- DatasetUnavailableError     a builtin whose files or package are missing here
  |    +- OverloadedError
  |    +- ModelLoadingError
  |    +- ArtifactCorruptedError
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
    """Say what happened (`detail`), how to mend it (`hint`) and where (`errors`)."""

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong inside Leanfuse"
    code: ClassVar[int] = 500

    def __init__(self, detail: str, *, hint: str = "", errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.errors = tuple(errors)


class InvalidInputError(LeanfuseError):
    """What was sent can never work, however often it is repeated."""

    slug = "invalid-input"
    title = "The input is not valid"
    code = 422


class InvalidRequestError(InvalidInputError):
    """Fields break their bounds; `errors` names each."""

    slug = "invalid-request"
    title = "The request does not fit its schema"


class UnknownFieldError(InvalidInputError):
    """A field that does not exist was sent."""

    slug = "unknown-field"
    title = "There is no such field"


class UnknownComponentError(InvalidInputError):
    """A kind, method, layer, optimizer or preset is not among the known ones."""

    slug = "unknown-component"
    title = "There is no such component"


class OutOfRangeError(InvalidInputError):
    """A number lies outside its allowed range."""

    slug = "out-of-range"
    title = "A value is out of its range"


class InvalidNameError(InvalidInputError):
    """A name breaks the naming rule."""

    slug = "invalid-name"
    title = "The name is not valid"


class InvalidArchitectureError(InvalidInputError):
    """The layers do not fit together."""

    slug = "invalid-architecture"
    title = "The architecture cannot be built"


class ModelTooLargeError(InvalidInputError):
    """The architecture has more parameters or layers than the service accepts."""

    slug = "model-too-large"
    title = "The model is too large"


class ShapeMismatchError(InvalidInputError):
    """A model, teacher, member or row does not have the shape that is needed."""

    slug = "shape-mismatch"
    title = "The shapes do not match"


class InvalidEnsembleError(InvalidInputError):
    """The members or weights cannot form an ensemble."""

    slug = "invalid-ensemble"
    title = "The ensemble is not valid"


class DatasetNotFoundError(InvalidInputError):
    """A spec names a data set that does not exist."""

    slug = "dataset-not-found"
    title = "There is no such data set"


class ReferenceNotFoundError(InvalidInputError):
    """A spec names a model, version or alias that does not exist."""

    slug = "reference-not-found"
    title = "There is no such model to build on"


class UnreadableFileError(InvalidInputError):
    """An uploaded file cannot be read as a data set."""

    slug = "unreadable-file"
    title = "The file cannot be read"


class MalformedRequestError(LeanfuseError):
    """The bytes of the request are not what they claim to be."""

    slug = "malformed-request"
    title = "The request is malformed"
    code = 400


class UnsupportedMediaTypeError(LeanfuseError):
    """The content type or file format is not accepted here."""

    slug = "unsupported-media-type"
    title = "The media type is not supported"
    code = 415


class PayloadTooLargeError(LeanfuseError):
    """The body, batch or archive is larger than the limit, which the message names."""

    slug = "payload-too-large"
    title = "The payload is too large"
    code = 413


class NotFoundError(LeanfuseError):
    """The path names nothing that exists."""

    slug = "not-found"
    title = "Not found"
    code = 404


class ModelNotFoundError(NotFoundError):
    """No model, version or alias has that name."""

    slug = "model-not-found"
    title = "There is no such model"


class JobNotFoundError(NotFoundError):
    """No job has that id."""

    slug = "job-not-found"
    title = "There is no such job"


class ConflictError(LeanfuseError):
    """The present state forbids the request."""

    slug = "conflict"
    title = "The present state forbids this"
    code = 409


class AlreadyExistsError(ConflictError):
    """The name is taken."""

    slug = "already-exists"
    title = "The name is taken"


class JobAlreadyFinishedError(ConflictError):
    """A finished job never changes."""

    slug = "job-already-finished"
    title = "The job has finished already"


class ModelNotReadyError(ConflictError):
    """The version exists but cannot serve."""

    slug = "model-not-ready"
    title = "The model is not ready"


class VersionRejectedError(ConflictError):
    """A version failed its gate, and was not asked for by its number."""

    slug = "version-rejected"
    title = "The version was rejected"


class StillReferencedError(ConflictError):
    """An alias, ensemble or job still refers to it."""

    slug = "still-referenced"
    title = "It is still in use"


class GateNotMetError(ConflictError):
    """A candidate does not meet the conditions of its promotion; `errors` names each with what was measured."""

    slug = "gate-not-met"
    title = "The candidate does not meet the conditions"


class ResultNotReadyError(ConflictError):
    """A job has no result to download: it is still at work, or it ended without one."""

    slug = "result-not-ready"
    title = "The job has no result"


class PreconditionFailedError(LeanfuseError):
    """The resource changed since the If-Match value was read."""

    slug = "precondition-failed"
    title = "The resource has changed"
    code = 412


class UnavailableError(LeanfuseError):
    """The service cannot answer now; a later try may succeed."""

    slug = "unavailable"
    title = "Not available at present"
    code = 503


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer."""

    slug = "database-unavailable"
    title = "The database does not answer"


class DatasetUnavailableError(UnavailableError):
    """A builtin data set needs a file or package that is missing on this machine."""

    slug = "dataset-unavailable"
    title = "The data set is not available on this machine"


class OverloadedError(UnavailableError):
    """More requests wait than the service may queue."""

    slug = "overloaded"
    title = "The service is overloaded"


class ModelLoadingError(UnavailableError):
    """The model is being loaded into memory."""

    slug = "model-loading"
    title = "The model is being loaded"


class ArtifactCorruptedError(UnavailableError):
    """A stored file no longer has the content that its digest names."""

    slug = "artifact-corrupted"
    title = "A stored artifact is corrupted"


class JobError(LeanfuseError):
    """A job started and failed; the job row carries this error."""

    slug = "job-failed"
    title = "The job failed"
    retryable: ClassVar[bool] = False


class MalformedJsonError(MalformedRequestError):
    """The body is not JSON in UTF-8, has a key twice, or is nested too deeply."""

    slug = "malformed-json"
    title = "The body is not valid JSON"


class InvalidPageTokenError(MalformedRequestError):
    """The page token was not made by this service for this list."""

    slug = "invalid-page-token"
    title = "The page token is not valid"


class InvalidFilterError(MalformedRequestError):
    """A query parameter asks for a filter or an order that does not exist."""

    slug = "invalid-filter"
    title = "There is no such filter"


class InvalidHostError(MalformedRequestError):
    """The Host header names a host that this service does not answer for."""

    slug = "invalid-host"
    title = "The host is not allowed"


class MethodNotAllowedError(LeanfuseError):
    """The path exists, but not with this method; `Allow` lists the methods that do."""

    slug = "method-not-allowed"
    title = "The method is not allowed here"
    code = 405


class ReadOnlyFieldError(InvalidInputError):
    """A field that only the service writes was sent."""

    slug = "read-only-field"
    title = "The field is written by the service alone"


class NonFiniteNumberError(InvalidInputError):
    """NaN or an infinity was sent; JSON has neither."""

    slug = "non-finite-number"
    title = "A number is not finite"


class InvalidStringError(InvalidInputError):
    """A string holds U+0000 or half of a surrogate pair, which cannot be stored."""

    slug = "invalid-string"
    title = "A string cannot be stored"


class NumberOutOfRangeError(InvalidInputError):
    """An integer does not fit 64 bits."""

    slug = "number-out-of-range"
    title = "An integer is too large"


class ModelDeletedError(NotFoundError):
    """The version existed and was deleted."""

    slug = "model-deleted"
    title = "The version was deleted"
    code = 410


class InputShapeMismatchError(InvalidInputError):
    """The input does not have the shape that the model's signature asks for."""

    slug = "input-shape-mismatch"
    title = "The input has another shape than the model takes"


class RaggedInputError(InvalidInputError):
    """The rows of the input differ in shape."""

    slug = "ragged-input"
    title = "The rows of the input differ in shape"


class EmptyInputError(InvalidInputError):
    """The input has no rows."""

    slug = "empty-input"
    title = "The input has no rows"


class TaskMismatchError(InvalidInputError):
    """Classes were asked of a regression, or a value of a classification."""

    slug = "task-mismatch"
    title = "The model does another task"


class InvalidInputValueError(InvalidInputError):
    """An element of the input is not a number that the model takes."""

    slug = "invalid-input-value"
    title = "A value of the input is not valid"


class BatchTooLargeError(PayloadTooLargeError):
    """More rows were sent than one prediction may have."""

    slug = "batch-too-large"
    title = "The batch is too large"


class PredictionTimeoutError(LeanfuseError):
    """The prediction did not end in time."""

    slug = "prediction-timeout"
    title = "The prediction took too long"
    code = 504


class NotSupportedError(LeanfuseError):
    """The protocol has this, but this service does not."""

    slug = "not-supported"
    title = "This is not supported"
    code = 501


class UnreachableError(UnavailableError):
    """Nothing answers at the address of the service."""

    slug = "unreachable"
    title = "The service does not answer"
