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


class WeightOutOfRangeError(UnreadableFileError):
    """A row weight is below 0, or all of a set are 0."""

    slug = "weight-out-of-range"
    title = "A row weight is out of range"


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


class UnsupportedWavEncodingError(UnsupportedMediaTypeError):
    """The audio is coded in another way than PCM of 8, 16, 24 or 32 bits."""

    slug = "unsupported-wav-encoding"
    title = "The WAV encoding is not supported"


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


class DigestMismatchError(MalformedRequestError):
    """The bytes that arrived are not those that Content-Digest names."""

    slug = "digest-mismatch"
    title = "The digest does not match the bytes"
