"""The leaves of the error tree that predictions end in."""

from app.domain.errors import InvalidInputError, LeanfuseError, PayloadTooLargeError, UnavailableError


class ModelLoadingError(UnavailableError):
    """The model is being loaded into memory."""

    slug = "model-loading"
    title = "The model is being loaded"
    remedy = "Try again after `Retry-After` seconds. `LEANFUSE_SERVING__PINNED` keeps models in memory."


class TaskMismatchError(InvalidInputError):
    """Classes were asked of a regression, or a value of a classification."""

    slug = "task-mismatch"
    title = "The model does another task"
    remedy = (
        "Use `:classify` for models that name classes, `:regress` for models that give numbers; `:predict` serves both."
    )


class EmptyInputError(InvalidInputError):
    """The input has no rows."""

    slug = "empty-input"
    title = "The input has no rows"
    remedy = "Send at least one row."


class RaggedInputError(InvalidInputError):
    """The rows of the input differ in shape."""

    slug = "ragged-input"
    title = "The rows of the input differ in shape"
    remedy = "Give every row the shape that `GET /v1/models/NAME` shows under `input`."


class BatchTooLargeError(PayloadTooLargeError):
    """More rows were sent than one prediction may have."""

    slug = "batch-too-large"
    title = "The batch is too large"
    remedy = "Send the rows in several requests, or as a `predict` job, which writes a file."


class PredictionTimeoutError(LeanfuseError):
    """The prediction did not end in time."""

    slug = "prediction-timeout"
    title = "The prediction took too long"
    remedy = (
        "Send fewer rows at once, or try again when less is asked; `LEANFUSE_SERVING__DEADLINE_SECONDS` is the limit."
    )
    code = 504


class InputShapeMismatchError(InvalidInputError):
    """The input does not have the shape that the model's signature asks for."""

    slug = "input-shape-mismatch"
    title = "The input has another shape than the model takes"
    remedy = (
        "Send rows of the shape that `detail` names: `GET /v1/models/NAME` shows it under `input`, its "
        "`/openapi.json` an example."
    )


class InvalidInputValueError(InvalidInputError):
    """An element of the input is not a number that the model takes."""

    slug = "invalid-input-value"
    title = "A value of the input is not valid"
    remedy = "Replace the value that `detail` points at by a finite number in the range of the model's `dtype`."
