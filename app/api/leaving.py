"""Notice that the process is to leave while requests are still open."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def noticing_signals(leaving: threading.Event) -> Iterator[None]:
    """Set `leaving` at SIGINT or SIGTERM, then do what would have been done without us.

    The server waits for open requests before it ends the lifespan, so a stream that waits for the lifespan's end would
    hold it up until the server's patience is over. Only the main thread may handle signals; elsewhere nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    def notice(number: int, frame: FrameType | None) -> None:
        leaving.set()
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    watched = [number for number, handler in handlers.items() if callable(handler)]
    for number in watched:
        signal.signal(number, notice)
    try:
        yield
    finally:
        for number in watched:
            signal.signal(number, handlers[number])
