"""The leaves of the error tree about how requests are sent: repeated ones, and ranges of files."""

from app.domain.errors import ConflictError, InvalidInputError, LeanfuseError, MalformedRequestError


class IdempotencyKeyReusedError(InvalidInputError):
    """The idempotency key was used before with another request."""

    slug = "idempotency-key-reused"
    title = "The idempotency key belongs to another request"


class InvalidIdempotencyKeyError(MalformedRequestError):
    """The idempotency key is empty, too long or has unprintable characters."""

    slug = "invalid-idempotency-key"
    title = "The idempotency key is not valid"


class IdempotencyInProgressError(ConflictError):
    """The first request with this idempotency key has not ended."""

    slug = "idempotency-in-progress"
    title = "The first request with this key is still running"


class InvalidImageError(InvalidInputError):
    """A picture to predict is none, or of another size than the model takes."""

    slug = "invalid-image"
    title = "The picture does not fit"


class RangeNotSatisfiableError(LeanfuseError):
    """Several ranges of a file were asked for, or one beyond its end."""

    slug = "range-not-satisfiable"
    title = "The range cannot be sent"
    code = 416
