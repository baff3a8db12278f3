"""What endpoints are given: one bundle of services, built by `app.main.create_app`."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from app.api.watching import EventWatch
from app.db.session import Sessions
from app.metrics import Metrics
from app.queue import Hinter
from app.serving.arrays import ArrayCache
from app.serving.predictor import Predictor
from app.serving.shadow import Shadows
from app.serving.view import RegistryView
from app.settings import Settings
from app.store.base import Store


@dataclass(frozen=True)
class Services:
    """Hold what the process shares between requests.

    `is_current` tells whether the schema is the newest, `leaving` that requests that wait must end.
    """

    settings: Settings
    sessions: Sessions
    store: Store
    view: RegistryView
    watch: EventWatch
    predictor: Predictor
    shadows: Shadows
    arrays: ArrayCache
    hinter: Hinter
    metrics: Metrics
    page_key: bytes
    is_current: Callable[[], bool]
    leaving: threading.Event


def services(request: Request) -> Services:
    """Return the services of the application that serves this request."""
    state: Any = request.app.state
    found: Services = state.services
    return found


Wired = Annotated[Services, Depends(services)]
