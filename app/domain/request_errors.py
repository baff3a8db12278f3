"""The leaves of the error tree about how requests are sent: hosts, methods, pages, keys, what JSON may hold."""

from app.domain.errors import ConflictError, InvalidInputError, LeanfuseError, MalformedRequestError


class IdempotencyKeyReusedError(InvalidInputError):
    """The idempotency key was used before with another request."""

    slug = "idempotency-key-reused"
    title = "The idempotency key belongs to another request"
    remedy = "Use a new key for another request; send the very same bytes to repeat one."


class InvalidIdempotencyKeyError(MalformedRequestError):
    """The idempotency key is empty, too long or has unprintable characters."""

    slug = "invalid-idempotency-key"
    title = "The idempotency key is not valid"
    remedy = "Use 1 to 255 printable ASCII characters, best a new UUID for each request."


class IdempotencyInProgressError(ConflictError):
    """The first request with this idempotency key has not ended."""

    slug = "idempotency-in-progress"
    title = "The first request with this key is still running"
    remedy = "Wait until the first request has ended, then send it again to get the same answer."


class InvalidImageError(InvalidInputError):
    """A picture to predict is none, or of another size than the model takes."""

    slug = "invalid-image"
    title = "The picture does not fit"
    remedy = (
        "Send a PNG or JPEG, as base64, of the size that the model takes; `GET /v1/models/NAME` shows it under `input`."
    )


class RangeNotSatisfiableError(LeanfuseError):
    """Several ranges of a file were asked for, or one beyond its end."""

    slug = "range-not-satisfiable"
    title = "The range cannot be sent"
    remedy = "Ask for one range inside the file, as in `Range: bytes=0-1023`, or for the whole file without `Range`."
    code = 416


class InvalidStringError(InvalidInputError):
    """A string holds U+0000 or half of a surrogate pair, which cannot be stored."""

    slug = "invalid-string"
    title = "A string cannot be stored"
    remedy = "Take U+0000 and unpaired surrogates out of the string."


class NumberOutOfRangeError(InvalidInputError):
    """An integer does not fit 64 bits."""

    slug = "number-out-of-range"
    title = "An integer is too large"
    remedy = "Send an integer between -2^63 and 2^63 - 1."


class ReadOnlyFieldError(InvalidInputError):
    """A field that only the service writes was sent."""

    slug = "read-only-field"
    title = "The field is written by the service alone"
    remedy = "Leave the field out: the service writes it."


class NonFiniteNumberError(InvalidInputError):
    """NaN or an infinity was sent; JSON has neither."""

    slug = "non-finite-number"
    title = "A number is not finite"
    remedy = "Send a finite number, or leave the field out."


class InvalidHostError(MalformedRequestError):
    """The Host header names a host that this service does not answer for."""

    slug = "invalid-host"
    title = "The host is not allowed"
    remedy = "Use a name that the service answers for. Whoever runs it can add yours to `LEANFUSE_ALLOWED_HOSTS`."


class InvalidPageTokenError(MalformedRequestError):
    """The page token was not made by this service for this list."""

    slug = "invalid-page-token"
    title = "The page token is not valid"
    remedy = "Start again without `page_token`, and send each token back as it came, with the same query."


class InvalidFilterError(MalformedRequestError):
    """A query parameter asks for a filter or an order that does not exist."""

    slug = "invalid-filter"
    title = "There is no such filter"
    remedy = "Use only the query parameters that the hint or `/docs` lists for this path."


class MethodNotAllowedError(LeanfuseError):
    """The path exists, but not with this method; `Allow` lists the methods that do."""

    slug = "method-not-allowed"
    title = "The method is not allowed here"
    remedy = "Use one of the methods that `Allow` lists."
    code = 405
