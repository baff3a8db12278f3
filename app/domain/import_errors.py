"""The leaves of the error tree that uploaded models end in."""

from app.domain.errors import InvalidInputError, UnsupportedMediaTypeError


class InvalidModelError(InvalidInputError):
    """The uploaded file is no ONNX graph that could be served."""

    slug = "invalid-model"
    title = "The model file is not valid"


class UnsafeModelError(InvalidInputError):
    """The uploaded graph reaches beyond itself: into other files, or to operators that are code of somebody."""

    slug = "unsafe-model"
    title = "The model file is not safe"


class UnsupportedModelFormatError(UnsupportedMediaTypeError):
    """The uploaded model is of a format whose files hold or need code, or that is not read."""

    slug = "unsupported-model-format"
    title = "The model format is not supported"
