"""Tell by its first bytes whether an uploaded model may be an ONNX file, and else how it becomes one."""

from pathlib import Path

from app.domain.errors import FieldError
from app.domain.import_errors import InvalidModelError, UnsupportedModelFormatError

_SKLEARN = "Convert it where it was made: `skl2onnx.to_onnx(model, rows[:1])`, and send the .onnx file."
_TORCH = "Convert it where it was made: `torch.onnx.export(model, (rows,), 'model.onnx', dynamo=True)`."
_KERAS = "Convert it where it was made: `model.export('model.onnx', format='onnx')`."
_OTHER = "Send an ONNX file; most frameworks export one."
_BY_MAGIC = (
    (b"PK\x03\x04", "a ZIP archive, such as Keras and PyTorch write", f"{_KERAS} Or: {_TORCH}"),
    (b"\x89HDF", "HDF5", _KERAS),
    *((b"\x80" + bytes([version]), "a pickle, which is code", _SKLEARN) for version in range(2, 6)),
    (b"\x93NUMPY", "a NumPy array", _OTHER),
    (b"\x1f\x8b", "compressed", "Send the file itself."),
    (b"LFPK", "a packed graph", "Send the plain ONNX graph."),
    (b"GGUF", "GGUF", _OTHER),
)
_BY_SUFFIX = {
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _SKLEARN),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".safetensors"), _TORCH),
    **dict.fromkeys((".h5", ".hdf5", ".keras", ".pb", ".tf"), _KERAS),
    **dict.fromkeys((".tflite", ".json", ".pmml", ".zip", ".gguf", ".mlmodel", ".xml"), _OTHER),
}


def check_format(path: Path, filename: str) -> None:
    """Raise UnsupportedModelFormatError for what is no ONNX file by its bytes or name, InvalidModelError for no bytes.

    The bytes come first: a pickle stays one whatever its name.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise InvalidModelError("The file has 0 bytes.", hint="Send an ONNX file.", errors=[_at_file("0 bytes")])
    for magic, name, hint in _BY_MAGIC:
        if start.startswith(magic):
            raise _unsupported(f"The file is {name}.", hint)
    if start[4:] == b"TFL3":
        raise _unsupported("The file is TensorFlow Lite.", _OTHER)
    suffix = Path(filename).suffix.lower()
    if suffix in _BY_SUFFIX:
        raise _unsupported(f"The name ends with {suffix!r}; only ONNX files are read.", _BY_SUFFIX[suffix])


def _unsupported(detail: str, hint: str) -> UnsupportedModelFormatError:
    return UnsupportedModelFormatError(detail, hint=hint, errors=[_at_file(detail, UnsupportedModelFormatError.slug)])


def _at_file(detail: str, kind: str = InvalidModelError.slug) -> FieldError:
    return FieldError("/file", detail, kind)
