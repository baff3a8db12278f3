"""Compressed bodies: inflated within a limit, deflated where a client asks for it and it pays."""

import zlib
from collections.abc import Callable

from app.domain import errors

# Shorter replies travel in a packet or two anyway.
LEAST_BYTES = 4096
_LEVEL = 1
_CHUNK_BYTES = 2**20
# What zlib is told: its own framing (which HTTP calls deflate), or gzip's.
_FRAMINGS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def inflate(body: bytes, encoding: str, *, most_bytes: int) -> bytes:
    """Return the body that a client compressed.

    Raise UnsupportedMediaTypeError for another encoding, PayloadTooLargeError as soon as more than `most_bytes` have
    come out, and MalformedRequestError for bytes that are not what they claim to be.
    """
    framing = _FRAMINGS.get(encoding)
    if framing is None:
        raise errors.UnsupportedMediaTypeError(
            f"The body has the encoding {encoding[:40]!r}.", hint="Send it as gzip, as deflate or plain."
        )
    chunks: list[bytes] = []
    size = 0
    while body:
        inflater = zlib.decompressobj(framing)
        # A member of a gzip file may be followed by another one.
        for chunk in iter(_reader(inflater, body, encoding), b""):
            size += len(chunk)
            if size > most_bytes:
                raise errors.PayloadTooLargeError(
                    f"The body inflates to more than {most_bytes:,} bytes, the limit here.", hint="Send less."
                )
            chunks.append(chunk)
        if not inflater.eof:
            raise _broken(encoding, "it ends too early")
        body = inflater.unused_data
    return b"".join(chunks)


def _reader(inflater: "zlib._Decompress", body: bytes, encoding: str) -> Callable[[], bytes]:
    rest = body

    def read() -> bytes:
        nonlocal rest
        try:
            chunk = inflater.decompress(rest, _CHUNK_BYTES)
        except zlib.error:
            raise _broken(encoding, "its bytes are damaged") from None
        rest = inflater.unconsumed_tail
        return chunk

    return read


def _broken(encoding: str, why: str) -> errors.MalformedRequestError:
    return errors.MalformedRequestError(f"The body is not {encoding}: {why}.", hint="Compress it again.")


def accepted_encoding(accepted: str) -> str | None:
    """Return the encoding that an Accept-Encoding header allows and that can be written, gzip rather than deflate."""
    weights: dict[str, str] = {}
    for item in accepted.lower().split(","):
        name, _, weight = item.partition(";")
        weights[name.strip()] = weight.replace(" ", "")
    for name in ("gzip", "deflate"):
        if weights.get(name, "q=0").rstrip("0.") != "q=":
            return name
    return None


def deflate(body: bytes, encoding: str) -> bytes:
    """Return the body compressed, quickly rather than well."""
    writer = zlib.compressobj(_LEVEL, wbits=_FRAMINGS[encoding])
    return writer.compress(body) + writer.flush()
