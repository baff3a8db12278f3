"""Decode WAV: PCM of 8, 16, 24 or 32 bits to int16 mono.

The chunks are walked here rather than by the standard library's `wave`, which trusts the sizes that headers declare
and tells a lie in them from a cut-off file only by crashing.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from app.datasets.options import Limits
from app.datasets.rows import Array
from app.domain.errors import FieldError
from app.domain.upload_errors import (
    AudioTooLongError,
    DecompressionBombError,
    InvalidWavError,
    UnsupportedWavEncodingError,
)

PCM = 1
HIGHEST_RATE = 384_000


class _Format(NamedTuple):
    tag: int
    channels: int
    rate: int
    block_bytes: int
    bits: int


def decode_clips(blobs: Iterable[tuple[str, bytes]], limits: Limits) -> tuple[list[Array], int]:
    """Return one int16 array per clip and the sample rate in Hz, which all clips must share."""
    clips: list[Array] = []
    rates: dict[int, str] = {}
    used = 0
    for name, blob in blobs:
        clip, rate = decode_wav(name, blob, limits)
        rates.setdefault(rate, name)
        if len(rates) > 1:
            (one, first), (other, second) = rates.items()
            raise _invalid(second, f"has {other} Hz, {first[:200]!r} has {one} Hz; all clips need one sample rate")
        used += clip.nbytes
        if used > limits.expanded_bytes:
            raise DecompressionBombError(
                f"The clips hold more than {limits.expanded_bytes} bytes of sound.", hint="Send fewer clips."
            )
        clips.append(clip)
    return clips, next(iter(rates))


def decode_wav(name: str, blob: bytes, limits: Limits) -> tuple[Array, int]:
    """Return the samples, int16 (frames,), channels averaged, and the rate in Hz."""
    layout, data = _walk(name, blob)
    _check_format(name, layout)
    frames = len(data) // layout.block_bytes
    if frames == 0 or len(data) % layout.block_bytes:
        raise _invalid(name, f"has {len(data)} bytes of sound, no whole number of frames of {layout.block_bytes} bytes")
    if frames > limits.audio_seconds * layout.rate:
        raise AudioTooLongError(
            f"{name[:200]!r} lasts {frames / layout.rate:.0f} s; at most {limits.audio_seconds} s are decoded.",
            hint="Cut the recording into clips.",
            errors=[FieldError("/file", name[:200], "audio-too-long")],
        )
    samples = _to_int16(data, layout.bits).reshape(frames, layout.channels)
    if layout.channels == 1:
        return samples[:, 0], layout.rate
    return (samples.sum(axis=1, dtype=np.int32) // layout.channels).astype(np.int16), layout.rate


def _walk(name: str, blob: bytes) -> tuple[_Format, bytes]:
    """Find the `fmt ` and `data` chunks; every size must fit in the file."""
    if len(blob) < 12 or blob[:4] != b"RIFF" or blob[8:12] != b"WAVE":
        raise _invalid(name, "is no RIFF WAVE file")
    declared = struct.unpack_from("<I", blob, 4)[0] + 8
    if declared > len(blob):
        raise _invalid(name, f"declares {declared} bytes and holds {len(blob)}; it may be cut off")
    layout: _Format | None = None
    at = 12
    while at + 8 <= declared:
        chunk, size = struct.unpack_from("<4sI", blob, at)
        if at + 8 + size > len(blob):
            raise _invalid(name, f"has a chunk {chunk!r} that declares {size} bytes and ends early")
        if chunk == b"fmt " and size >= 16:
            tag, channels, rate, _, block_bytes, bits = struct.unpack_from("<HHIIHH", blob, at + 8)
            layout = _Format(tag, channels, rate, block_bytes, bits)
        elif chunk == b"data":
            if layout is None:
                raise _invalid(name, "has sound before its format")
            return layout, blob[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise _invalid(name, "holds no sound")


def _check_format(name: str, layout: _Format) -> None:
    if layout.tag != PCM or layout.bits not in (8, 16, 24, 32):
        raise UnsupportedWavEncodingError(
            f"{name[:200]!r} has the encoding {layout.tag:#06x} with {layout.bits} bits; "
            "PCM (0x0001) of 8, 16, 24 or 32 bits is read.",
            hint="Convert it: ffmpeg -i IN.wav -c:a pcm_s16le OUT.wav.",
            errors=[FieldError("/file", name[:200], "unsupported-wav-encoding")],
        )
    if not 1 <= layout.channels <= 16 or not 1 <= layout.rate <= HIGHEST_RATE:
        raise _invalid(name, f"declares {layout.channels} channels at {layout.rate} Hz")
    if layout.block_bytes != layout.channels * layout.bits // 8:
        raise _invalid(
            name, f"declares frames of {layout.block_bytes} bytes for {layout.channels} x {layout.bits} bits"
        )


def _to_int16(data: bytes, bits: int) -> Array:
    """Keep the upper 16 bits of each sample; 8-bit samples are unsigned."""
    if bits == 8:
        return ((np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8).astype(np.int16)
    if bits == 16:
        return np.frombuffer(data, "<i2").astype(np.int16)
    if bits == 24:
        upper = np.frombuffer(data, np.uint8).reshape(-1, 3)[:, 1:]
        return np.ascontiguousarray(upper).view("<i2").reshape(-1).astype(np.int16)
    return (np.frombuffer(data, "<i4") >> 16).astype(np.int16)


def _invalid(name: str, what: str) -> InvalidWavError:
    return InvalidWavError(
        f"{name[:200]!r} {what}.",
        hint="Save the recording again as 16-bit PCM WAV at the rate of the others.",
        errors=[FieldError("/file", name[:200], "invalid-wav")],
    )
