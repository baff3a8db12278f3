"""The leaves of the error tree that uploaded models end in."""

from app.domain.errors import InvalidInputError, UnsupportedMediaTypeError


class InvalidModelError(InvalidInputError):
    """The uploaded file is no ONNX graph that could be served."""

    slug = "invalid-model"
    title = "The model file is not valid"
    remedy = (
        "Check the file with `onnx.checker`, and export it with one float or uint8 input and one output, batch first."
    )


class UnsafeModelError(InvalidInputError):
    """The uploaded graph reaches beyond itself: into other files, or to operators that are code of somebody."""

    slug = "unsafe-model"
    title = "The model file is not safe"
    remedy = "Export the model as one file of standard ONNX operators, without external data or custom domains."


class UnsupportedModelFormatError(UnsupportedMediaTypeError):
    """The uploaded model is of a format whose files hold or need code, or that is not read."""

    slug = "unsupported-model-format"
    title = "The model format is not supported"
    remedy = "Convert the model to ONNX, as the hint tells, and upload that."
