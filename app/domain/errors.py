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
  |    +- UnreadableFileError (and its leaves: one slug for each way an upload breaks)
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
  |    +- IdempotencyKeyReusedError
  |    +- ReadOnlyFieldError
  |    +- NonFiniteNumberError, NumberOutOfRangeError, InvalidStringError
  |    +- InputShapeMismatchError, RaggedInputError, EmptyInputError, InvalidInputValueError (predictions)
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
  +- PayloadTooLargeError (413)
  |    +- DecompressionBombError
  |    +- ImageTooLargeError
  |    +- AudioTooLongError
  |    +- BatchTooLargeError
  +- PredictionTimeoutError (504)
  +- NotFoundError (404)
  |    +- ModelNotFoundError
  |    +- ModelDeletedError (410)
  |    +- JobNotFoundError
  +- ConflictError (409)
  |    +- AlreadyExistsError
  |    +- JobAlreadyFinishedError
  |    +- ModelNotReadyError
  |    +- StillReferencedError
  |    +- IdempotencyInProgressError
  +- PreconditionFailedError (412)
  +- UnavailableError (503)
  |    +- DatabaseUnavailableError
  |    +- DatasetUnavailableError     a builtin whose files or package are missing here
  |    +- OverloadedError
  |    +- ArtifactCorruptedError
  +- JobError (a job that started and failed; carried in job.error)
       +- TrainingDivergedError
       +- ExportMismatchError
       +- DependencyFailedError
       +- PoisonJobError
       +- DeadlineExceededError
       +- OutOfMemoryError
       +- MethodNotApplicableError
       +- CheckpointIncompatibleError
       +- NoGainError
"""

from collections.abc import Iterable, Sequence
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


class EmptyFileError(UnreadableFileError):
    """The file has 0 bytes."""

    slug = "empty-file"
    title = "The file is empty"


class PickleNotAllowedError(UnreadableFileError):
    """An array of objects was sent: reading it would run code of the sender."""

    slug = "pickle-not-allowed"
    title = "Pickled objects are not accepted"


class DeclaredSizeMismatchError(UnreadableFileError):
    """A header declares another number of bytes than there are."""

    slug = "declared-size-mismatch"
    title = "A header declares another size than the file holds"


class TooManyMembersError(UnreadableFileError):
    """The archive has more members than the service reads."""

    slug = "too-many-members"
    title = "The archive has too many members"


class UnsupportedDtypeError(UnreadableFileError):
    """An array has a type that is no feature or label."""

    slug = "unsupported-dtype"
    title = "The type of the array is not supported"


class UnsupportedArchiveError(UnreadableFileError):
    """The archive is encrypted, nested, overlapping or packed in a way that is not read."""

    slug = "unsupported-archive"
    title = "The archive is of an unsupported kind"


class UnsafeArchivePathError(UnreadableFileError):
    """A member's name points outside the archive, or is no plain file."""

    slug = "unsafe-archive-path"
    title = "A name in the archive is not safe"


class UnreadableMemberError(UnreadableFileError):
    """One file of the archive cannot be decoded."""

    slug = "unreadable-member"
    title = "A file in the archive cannot be read"


class NoSamplesError(UnreadableFileError):
    """The file, or one of the row sets, has no rows."""

    slug = "no-samples"
    title = "There are no samples"


class SingleClassError(UnreadableFileError):
    """All rows have the same label."""

    slug = "single-class"
    title = "There is only one class"


class LengthMismatchError(UnreadableFileError):
    """Features and labels differ in number."""

    slug = "length-mismatch"
    title = "Features and labels differ in number"


class LabelOutOfRangeError(UnreadableFileError):
    """A label is none of the classes."""

    slug = "label-out-of-range"
    title = "A label is out of range"


class NonFiniteValuesError(UnreadableFileError):
    """A value is NaN or infinite; `errors` names the first ten."""

    slug = "non-finite-values"
    title = "A value is not finite"


class InvalidCsvError(UnreadableFileError):
    """The text is no proper CSV; the message names line and column."""

    slug = "invalid-csv"
    title = "The CSV is not valid"


class InvalidWavError(UnreadableFileError):
    """The audio is no proper WAV."""

    slug = "invalid-wav"
    title = "The WAV is not valid"


class IdempotencyKeyReusedError(InvalidInputError):
    """The idempotency key was used before with another request."""

    slug = "idempotency-key-reused"
    title = "The idempotency key belongs to another request"


class MalformedRequestError(LeanfuseError):
    """The bytes of the request are not what they claim to be."""

    slug = "malformed-request"
    title = "The request is malformed"
    code = 400


class DigestMismatchError(MalformedRequestError):
    """The bytes that arrived are not those that Content-Digest names."""

    slug = "digest-mismatch"
    title = "The digest does not match the bytes"


class UnsupportedMediaTypeError(LeanfuseError):
    """The content type or file format is not accepted here."""

    slug = "unsupported-media-type"
    title = "The media type is not supported"
    code = 415


class UnsupportedWavEncodingError(UnsupportedMediaTypeError):
    """The audio is coded in another way than PCM of 8, 16, 24 or 32 bits."""

    slug = "unsupported-wav-encoding"
    title = "The WAV encoding is not supported"


class PayloadTooLargeError(LeanfuseError):
    """The body, batch or archive is larger than the limit, which the message names."""

    slug = "payload-too-large"
    title = "The payload is too large"
    code = 413


class DecompressionBombError(PayloadTooLargeError):
    """The archive expands to more than the service unpacks."""

    slug = "decompression-bomb"
    title = "The archive expands too far"


class ImageTooLargeError(PayloadTooLargeError):
    """An image has more pixels than the service decodes."""

    slug = "image-too-large"
    title = "An image is too large"


class AudioTooLongError(PayloadTooLargeError):
    """A recording lasts longer than the service decodes."""

    slug = "audio-too-long"
    title = "A recording is too long"


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


class StillReferencedError(ConflictError):
    """An alias, ensemble or job still refers to it."""

    slug = "still-referenced"
    title = "It is still in use"


class IdempotencyInProgressError(ConflictError):
    """The first request with this idempotency key has not ended."""

    slug = "idempotency-in-progress"
    title = "The first request with this key is still running"


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


class ArtifactCorruptedError(UnavailableError):
    """A stored file no longer has the content that its digest names."""

    slug = "artifact-corrupted"
    title = "A stored artifact is corrupted"


class JobError(LeanfuseError):
    """A job started and failed; the job row carries this error."""

    slug = "job-failed"
    title = "The job failed"
    retryable: ClassVar[bool] = False


class TrainingDivergedError(JobError):
    """The loss became infinite or not a number."""

    slug = "training-diverged"
    title = "The training diverged"


class ExportMismatchError(JobError):
    """The exported graph does not compute what the trained model computes."""

    slug = "export-mismatch"
    title = "The exported graph differs from the model"


class DependencyFailedError(JobError):
    """A job that this one needs failed or was cancelled."""

    slug = "dependency-failed"
    title = "A job that this one depends on did not succeed"


class PoisonJobError(JobError):
    """The job's process died several times in a row without progress."""

    slug = "poison-job"
    title = "The job kills its process again and again"


class DeadlineExceededError(JobError):
    """The job ran longer than it may."""

    slug = "deadline-exceeded"
    title = "The job ran out of time"


class OutOfMemoryError(JobError):
    """The trainer needed more memory than it may use."""

    slug = "job-out-of-memory"
    title = "The job ran out of memory"


class MethodNotApplicableError(JobError):
    """The method cannot be applied to this parent."""

    slug = "method-not-applicable"
    title = "The method cannot be applied here"


class CheckpointIncompatibleError(JobError):
    """A checkpoint was written by another training than the one that should go on from it."""

    slug = "checkpoint-incompatible"
    title = "The checkpoint belongs to another training"


class NoGainError(JobError):
    """A fusion that had to beat its best member was not shown to do so."""

    slug = "no-gain"
    title = "The fusion is not shown better than its best member"


class MalformedJsonError(MalformedRequestError):
    """The body is not JSON in UTF-8, has a key twice, or is nested too deeply."""

    slug = "malformed-json"
    title = "The body is not valid JSON"


class InvalidIdempotencyKeyError(MalformedRequestError):
    """The idempotency key is empty, too long or has unprintable characters."""

    slug = "invalid-idempotency-key"
    title = "The idempotency key is not valid"


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


class UnreachableError(UnavailableError):
    """Nothing answers at the address of the service."""

    slug = "unreachable"
    title = "The service does not answer"


def all_errors(root: type[LeanfuseError] = LeanfuseError) -> Iterable[type[LeanfuseError]]:
    """Yield every error class of the tree, the root first."""
    yield root
    for child in root.__subclasses__():
        yield from all_errors(child)
