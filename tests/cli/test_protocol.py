"""What is written to a socket in one turn of the loop goes out in one piece, in order, and nothing is lost."""

import asyncio
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.protocol import JoiningTransport


class RecordingTransport(asyncio.Transport):
    """Remember what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def writelines(self, list_of_data: Iterable[bytes]) -> None:  # type: ignore[override]
        self.writes.append(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


parts = st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6)


def after_a_turn(use: Callable[[JoiningTransport], None], *, turns: int = 2) -> RecordingTransport:
    """Return the inner transport after `use` and some turns of the loop."""

    async def run() -> RecordingTransport:
        inner = RecordingTransport()
        use(JoiningTransport(inner, asyncio.get_running_loop()))
        for _ in range(turns):
            await asyncio.sleep(0)
        return inner

    return asyncio.run(run())


@given(parts)
def test_writes_of_one_turn_are_one_write(written: list[bytes]) -> None:
    def use(transport: JoiningTransport) -> None:
        for part in written:
            transport.write(part)

    inner = after_a_turn(use)
    assert inner.writes == [b"".join(written)]


@given(parts, parts)
def test_lines_and_writes_keep_their_order(lines: list[bytes], written: list[bytes]) -> None:
    def use(transport: JoiningTransport) -> None:
        transport.writelines(lines)
        for part in written:
            transport.write(part)

    assert b"".join(after_a_turn(use).writes) == b"".join([*lines, *written])


def test_a_stream_is_not_kept_beyond_64_kib() -> None:
    def use(transport: JoiningTransport) -> None:
        for _ in range(5):
            transport.write(bytes(40_000))

    assert [len(written) for written in after_a_turn(use).writes] == [80_000, 80_000, 40_000]


@pytest.mark.parametrize("turns", [0, 2])
def test_closing_writes_what_is_kept_first(turns: int) -> None:
    def use(transport: JoiningTransport) -> None:
        transport.write(b"last words")
        transport.close()

    inner = after_a_turn(use, turns=turns)
    assert inner.writes == [b"last words"]
    assert inner.closed


def test_nothing_is_written_after_an_abort() -> None:
    def use(transport: JoiningTransport) -> None:
        transport.write(b"nobody listens")
        transport.abort()

    inner = after_a_turn(use)
    assert inner.writes == []
    assert inner.closed


def test_nothing_is_written_to_a_connection_that_was_lost_meanwhile() -> None:
    async def run() -> RecordingTransport:
        inner = RecordingTransport()
        transport = JoiningTransport(inner, asyncio.get_running_loop())
        transport.write(b"too late")
        inner.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return inner

    assert asyncio.run(run()).writes == []
