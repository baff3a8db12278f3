"""Write an answer to its socket at once: uvicorn hands its head and its body to the system one after the other."""

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Bytes = bytes | bytearray | memoryview
# Beyond that a write goes out by itself, so that a stream is still held up by a slow reader.
_MOST_KEPT_BYTES = 64 * 1024


class JoiningTransport(asyncio.Transport):
    """Pass everything on to a transport, what is written within one turn of the loop in one piece."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[Bytes] = []
        self._kept_bytes = 0

    def write(self, data: Bytes) -> None:
        """Keep the bytes until the end of this turn, unless they are many."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes > _MOST_KEPT_BYTES:
            self._flush()

    def writelines(self, list_of_data: Iterable[Bytes]) -> None:
        """Keep all the bytes until the end of this turn."""
        for data in list_of_data:
            self.write(data)

    def close(self) -> None:
        """Write what is kept, and close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Drop what is kept, and close."""
        self._parts.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Tell whether the transport is closing or closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as the base class has it
        """Return what the transport tells of itself."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Let the peer wait."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection over; what is kept goes out first."""
        self._flush()
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        parts, self._parts, self._kept_bytes = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.writelines(parts)


class JoiningProtocol(HttpToolsProtocol):
    """Serve HTTP as uvicorn does, with one write for an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a connection."""
        super().connection_made(JoiningTransport(transport, self.loop))
