"""Server-sent events, as a job's stream sends them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    """Be one event of a job: `name` is state, progress, metric, log or done; `id` resumes the stream."""

    id: str
    name: str
    data: dict[str, Any]


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Read server-sent events (HTML standard, section 9.2.6): comments are skipped, data lines joined.

    >>> list(parse_events(["id: 7", "event: progress", 'data: {"step": 1}', ""]))
    [Event(id='7', name='progress', data={'step': 1})]
    """
    event_id, name, data = "", "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield Event(event_id, name, _event_data("\n".join(data)))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id":
            event_id = value


def _event_data(text: str) -> dict[str, Any]:
    value = json.loads(text)
    return value if isinstance(value, dict) else {"value": value}
