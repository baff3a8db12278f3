"""The leaves of the error tree that uploads end in: one for each way in which a file breaks."""

from app.domain.errors import (
    MalformedRequestError,
    PayloadTooLargeError,
    UnreadableFileError,
    UnsupportedMediaTypeError,
)


class EmptyFileError(UnreadableFileError):
    """The file has 0 bytes."""

    slug = "empty-file"
    title = "The file is empty"
    remedy = "See that the file was written to its end, and send it again."


class PickleNotAllowedError(UnreadableFileError):
    """An array of objects was sent: reading it would run code of the sender."""

    slug = "pickle-not-allowed"
    title = "Pickled objects are not accepted"
    remedy = "Save arrays of numbers or fixed-length strings: `array.astype('float32')` before `numpy.savez`."


class DeclaredSizeMismatchError(UnreadableFileError):
    """A header declares another number of bytes than there are."""

    slug = "declared-size-mismatch"
    title = "A header declares another size than the file holds"
    remedy = "The file is cut off or was altered: write it again, and send it whole."


class TooManyMembersError(UnreadableFileError):
    """The archive has more members than the service reads."""

    slug = "too-many-members"
    title = "The archive has too many members"
    remedy = "Pack fewer files: resize or merge them, use NPZ or Parquet, or several data sets."


class UnsupportedDtypeError(UnreadableFileError):
    """An array has a type that is no feature or label."""

    slug = "unsupported-dtype"
    title = "The type of the array is not supported"
    remedy = "Convert the array to uint8, float32 or int64 (labels also to strings) before saving it."


class UnsupportedArchiveError(UnreadableFileError):
    """The archive is encrypted, nested, overlapping or packed in a way that is not read."""

    slug = "unsupported-archive"
    title = "The archive is of an unsupported kind"
    remedy = "Pack it again as a plain ZIP: stored or deflated, without password, without archives inside."


class UnsafeArchivePathError(UnreadableFileError):
    """A member's name points outside the archive, or is no plain file."""

    slug = "unsafe-archive-path"
    title = "A name in the archive is not safe"
    remedy = "Pack the folder again with relative names, without links, without two names that differ only by case."


class UnreadableMemberError(UnreadableFileError):
    """One file of the archive cannot be decoded."""

    slug = "unreadable-member"
    title = "A file in the archive cannot be read"
    remedy = "Open the file that `detail` names, save it again or leave it out, and pack the archive anew."


class NoSamplesError(UnreadableFileError):
    """The file, or one of the row sets, has no rows."""

    slug = "no-samples"
    title = "There are no samples"
    remedy = "Add rows: each of the sets train, selection and report needs some."


class SingleClassError(UnreadableFileError):
    """All rows have the same label."""

    slug = "single-class"
    title = "There is only one class"
    remedy = "Add rows of a second class, or choose another label column with `target`."


class LengthMismatchError(UnreadableFileError):
    """Features and labels differ in number."""

    slug = "length-mismatch"
    title = "Features and labels differ in number"
    remedy = "Write features and labels with one entry per row each."


class LabelOutOfRangeError(UnreadableFileError):
    """A label is none of the classes."""

    slug = "label-out-of-range"
    title = "A label is out of range"
    remedy = "Number the classes from 0 to one less than their count, or send their names as labels."


class WeightOutOfRangeError(UnreadableFileError):
    """A row weight is below 0, or all of a set are 0."""

    slug = "weight-out-of-range"
    title = "A row weight is out of range"
    remedy = "Use weights from 0 up, with at least one above 0 in the train and the selection set."


class NonFiniteValuesError(UnreadableFileError):
    """A value is NaN or infinite; `errors` names the first ten."""

    slug = "non-finite-values"
    title = "A value is not finite"
    remedy = "Replace or remove NaN and infinite values at the places that `errors` lists."


class InvalidCsvError(UnreadableFileError):
    """The text is no proper CSV; the message names line and column."""

    slug = "invalid-csv"
    title = "The CSV is not valid"
    remedy = "Mend the line that `detail` names: UTF-8, one header, as many cells in every row, quotes closed."


class InvalidWavError(UnreadableFileError):
    """The audio is no proper WAV."""

    slug = "invalid-wav"
    title = "The WAV is not valid"
    remedy = "Convert the recording: `ffmpeg -i in.wav -c:a pcm_s16le out.wav`."


class UnsupportedWavEncodingError(UnsupportedMediaTypeError):
    """The audio is coded in another way than PCM of 8, 16, 24 or 32 bits."""

    slug = "unsupported-wav-encoding"
    title = "The WAV encoding is not supported"
    remedy = "Convert the recording to PCM: `ffmpeg -i in.wav -c:a pcm_s16le out.wav`."


class DecompressionBombError(PayloadTooLargeError):
    """The archive expands to more than the service unpacks."""

    slug = "decompression-bomb"
    title = "The archive expands too far"
    remedy = "Send the content uncompressed, or less of it at a time."


class ImageTooLargeError(PayloadTooLargeError):
    """An image has more pixels than the service decodes."""

    slug = "image-too-large"
    title = "An image is too large"
    remedy = "Scale the pictures down before sending them."


class AudioTooLongError(PayloadTooLargeError):
    """A recording lasts longer than the service decodes."""

    slug = "audio-too-long"
    title = "A recording is too long"
    remedy = "Cut the recordings into shorter ones."


class DigestMismatchError(MalformedRequestError):
    """The bytes that arrived are not those that Content-Digest names."""

    slug = "digest-mismatch"
    title = "The digest does not match the bytes"
    remedy = "Send the file again; if it fails again, compute `Content-Digest` anew from the bytes that are sent."
