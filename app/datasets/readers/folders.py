"""Read a ZIP of media files in one folder per label: what images and recordings have in common."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

import numpy as np

from app.datasets.archive import is_litter, label_of, open_archive, read_member
from app.datasets.options import IngestOptions, Limits, check_options
from app.datasets.readers.images import IMAGE_MAGICS, decode_images
from app.datasets.readers.npz import read_npz
from app.datasets.readers.wav import decode_clips
from app.datasets.rows import Array, RawRows
from app.domain.errors import FieldError, InvalidRequestError, UnreadableFileError, UnsupportedMediaTypeError
from app.domain.upload_errors import NoSamplesError, UnsupportedArchiveError


class Media(NamedTuple):
    """Name the media files of an archive, in an order that mixes the labels."""

    names: list[str]
    members: list[ZipInfo]
    labels: list[str]


def read_zip(path: Path, options: IngestOptions, limits: Limits) -> RawRows:
    """Read an NPZ, or images or WAVs in label folders, whichever the archive holds."""
    with open_archive(path, limits, most_members=limits.members) as (archive, members):
        if any(member.filename.endswith(".npy") for member in members):
            return read_npz(path, options, limits)
        media = _find_media(members, labelled=options.task != "unlabelled")
        kind = _kind_of(archive, media.members[0])
        check_options(options, "ZIP of images" if kind == "image" else "ZIP of WAVs")
        blobs = ((member.filename, _read_kind(archive, member, kind)) for member in media.members)
        if kind == "image":
            x: Array | Sequence[Array] = decode_images(blobs, options, limits)
            rate: int | None = None
        else:
            x, rate = decode_clips(blobs, limits)
    return RawRows(
        features="image" if kind == "image" else "signal",
        x=x,
        labels=np.array(media.labels),
        groups=_find_groups(media.names, options.group_pattern),
        official=_find_official(media.names, options.report_pattern),
        sample_rate=rate,
        places=media.names,
    )


def _find_media(members: Sequence[ZipInfo], *, labelled: bool) -> Media:
    found = [member for member in members if not is_litter(member.filename)]
    if not found:
        raise NoSamplesError("The archive holds no images and no WAVs.", hint="Pack one folder per label.")
    # Members are sorted by name, so by label; a fixed shuffle makes every stretch of rows a fair sample of the labels.
    found = [found[index] for index in np.random.default_rng(0).permutation(len(found))]
    names = [member.filename for member in found]
    labels = [label_of(name) if labelled else "" for name in names]
    for name, label in zip(names, labels, strict=True):
        if label is None:
            raise UnreadableFileError(
                f"The member {name[:200]!r} stands in no folder, so it has no label.",
                hint="Pack one folder per label: cat/1.png, dog/1.png.",
                errors=[FieldError("/file", name[:200], "unreadable-file")],
            )
    return Media(names, found, [label for label in labels if label is not None])


def _kind_of(archive: ZipFile, member: ZipInfo) -> str:
    return _kind_of_bytes(read_member(archive, member), member.filename)


def _read_kind(archive: ZipFile, member: ZipInfo, kind: str) -> bytes:
    blob = read_member(archive, member)
    found = _kind_of_bytes(blob, member.filename)
    if found != kind:
        raise UnsupportedMediaTypeError(
            f"{member.filename[:200]!r} is {found}, other members are {kind}.", hint="Pack files of one kind."
        )
    return blob


def _kind_of_bytes(blob: bytes, name: str) -> str:
    if blob.startswith(IMAGE_MAGICS):
        return "image"
    if blob.startswith(b"RIFF") and blob[8:12] != b"WEBP":
        return "audio"
    if blob.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise UnsupportedArchiveError(
            f"The member {name[:200]!r} is an archive itself.", hint="Pack the files themselves."
        )
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".wav":
        return "audio"
    if suffix in {".png", ".jpg", ".jpeg", ".bmp"}:
        return "image"
    raise UnsupportedMediaTypeError(
        f"{name[:200]!r} is no PNG, JPEG or BMP image and no WAV.",
        hint="Convert it, or leave it out of the archive.",
        errors=[FieldError("/file", name[:200], "unsupported-media-type")],
    )


def _find_groups(names: Sequence[str], pattern: str | None) -> Array | None:
    if pattern is None:
        return None
    found = [re.search(pattern, name) for name in names]
    missing = next(
        (name for name, match in zip(names, found, strict=True) if match is None or match.group(1) is None), None
    )
    if missing is not None:
        raise InvalidRequestError(
            f"group_pattern is not found in {missing[:200]!r}.",
            hint="Every member must have a group.",
            errors=[FieldError("/options/group_pattern", missing[:200], "no-match")],
        )
    return np.array([match.group(1) for match in found if match is not None])


def _find_official(names: Sequence[str], pattern: str | None) -> Array | None:
    if pattern is None:
        return None
    return np.array([re.search(pattern, name) is not None for name in names])
