"""The API process: builds everything once, in `create_app`."""

import gc
import hashlib
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Engine
from starlette.types import Receive, Scope, Send

from app import __version__
from app.api import mlflow, system, v1, v2
from app.api.deps import Services
from app.api.express import Express
from app.api.leaving import noticing_signals
from app.api.middleware import Gate
from app.api.openapi import install_openapi
from app.api.problems import ErrorForm, documented, install_handlers
from app.api.v1 import predict
from app.api.watching import EventWatch
from app.db.migrate import is_current
from app.db.session import create_engine_for, make_sessions
from app.domain.errors import LeanfuseError
from app.domain.validation import job_spec_schema
from app.janitor import Janitor
from app.logging import configure_logging, get_logger
from app.metrics import Metrics
from app.queue import Hinter, make_hinter
from app.serving.arrays import ArrayCache
from app.serving.pool import EnginePool
from app.serving.predictor import Predictor
from app.serving.shadow import Shadows
from app.serving.view import RegistryView
from app.serving.warming import warming
from app.settings import Settings
from app.store import store_from
from app.ui import install_pages

if TYPE_CHECKING:
    from app.serving.loading import PlanMaker
    from app.serving.plans import Plan

log = get_logger(__name__)
# An engine's thread that has an answer waits that long for the loop; with Python's 5 ms it would mostly wait.
_SWITCH_SECONDS = 0.0001
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing is opened before its lifespan begins."""
    chosen = settings or Settings()
    if settings is None:
        # This process is the API's own; whoever brings settings has also chosen how to log.
        configure_logging(chosen.log_format, level=chosen.log_level)
        sys.setswitchinterval(_SWITCH_SECONDS)
    metrics = Metrics()
    app = Application(
        title="Leanfuse",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(chosen, metrics, own_process=settings is None),
        generate_unique_id_function=lambda route: route.name,
        # Prometheus is what we answer to; asking each request for other tools' presence costs more than counting it.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for router in (system.router, *v1.ROUTERS, *v2.ROUTERS, *mlflow.ROUTERS):
        app.include_router(router)
    system.install_static(app)
    as_page = ErrorForm(install_pages(app).error, documented)
    install_handlers(app, forms={**v2.ERROR_FORMS, **mlflow.ERROR_FORMS, "/": as_page, "/ui": as_page})
    install_openapi(app)
    gate = partial(
        Gate,
        metrics=metrics,
        allowed_hosts=_allowed_hosts(chosen),
        most_body_bytes=chosen.limits.body_bytes,
        most_upload_bytes=chosen.limits.upload_bytes,
    )
    app.add_middleware(gate)
    app.express = Express(app.framework, lanes=[predict.EXPRESS, *v2.LANES], gate=gate)
    return app


class Application(FastAPI):
    """Let predictions pass by the framework."""

    express: Express

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        scope["app"] = self
        await self.express(scope, receive, send)

    async def framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request as FastAPI does."""
        await super().__call__(scope, receive, send)


def _freeze() -> None:
    """Spare the collector what lives as long as the process: walking it held every request up for 100 ms at a time."""
    gc.collect()
    gc.freeze()


def _allowed_hosts(settings: Settings) -> tuple[str, ...]:
    """Answer for this machine's own names unless told others: a page elsewhere must not reach a local service."""
    if settings.allowed_hosts:
        return settings.allowed_hosts
    return ("*",) if settings.host in _EVERYWHERE else (*_LOCAL_HOSTS, settings.host)


def _lifespan(
    settings: Settings, metrics: Metrics, *, own_process: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = create_engine_for(settings.database_url)
        hinter = make_hinter(settings)
        services = _build(settings, metrics, engine, hinter)
        janitor = Janitor(engine, hinter, settings.timing, scaled=settings.scaled)
        app.state.services = services
        await run_in_threadpool(_look_once, services.view)
        job_spec_schema()  # now, so that the first refusal is as quick as all others
        stop = threading.Event()
        follower = threading.Thread(target=services.view.follow, args=(stop,), name="registry-view", daemon=True)
        follower.start()
        counter = threading.Thread(target=services.shadows.follow, args=(stop,), name="shadow-counts", daemon=True)
        counter.start()
        janitor.start()
        if own_process:
            threading.Thread(target=app.state.templates.warm, name="templates", daemon=True).start()
            _freeze()
        log.info("api_started", version=__version__, predict_threads=settings.serving.threads_of_a_process)
        try:
            with noticing_signals(services.leaving):
                yield
        finally:
            stop.set()
            await run_in_threadpool(janitor.stop)
            follower.join(timeout=5)
            counter.join(timeout=5)
            services.predictor.close()
            hinter.close()
            engine.dispose()

    return lifespan


def _build(settings: Settings, metrics: Metrics, engine: Engine, hinter: Hinter) -> Services:
    sessions = make_sessions(engine)
    store = store_from(settings)
    serving = settings.serving
    pool = EnginePool(store, _LatePlanMaker(settings), metrics=metrics, budget_bytes=serving.memory_bytes)
    predictor = Predictor(
        pool,
        metrics=metrics,
        threads=serving.threads_of_a_process,
        most_waiting_rows=serving.most_waiting_rows,
        deadline_seconds=serving.deadline_seconds,
        loading_seconds=serving.loading_seconds,
        logged_share=serving.logged_share,
    )
    return Services(
        settings=settings,
        sessions=sessions,
        store=store,
        view=RegistryView(sessions, warming(predictor, serving.pinned)),
        watch=EventWatch(sessions),
        predictor=predictor,
        shadows=Shadows(predictor, sessions, most_rows=max(1, serving.most_waiting_rows // 4)),
        arrays=ArrayCache(store),
        hinter=hinter,
        metrics=metrics,
        # Every process of one service must read the tokens of the others, and all know where their database is.
        page_key=hashlib.sha256(f"page-token {settings.database_url}".encode()).digest(),
        is_current=lambda: is_current(engine),
        leaving=threading.Event(),
    )


class _LatePlanMaker:
    """Make plans of graphs; ONNX Runtime takes a third of the start-up time, and the first model is loaded later."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.tunes = settings.serving.tune

    def load(self, path: Path) -> "Plan":
        return self._maker.load(path)

    def improve(self, path: Path, plan: "Plan") -> "Plan":
        return self._maker.improve(path, plan)

    @cached_property
    def _maker(self) -> "PlanMaker":
        from app.serving.loading import PlanMaker

        serving = self._settings.serving
        memory = self._settings.home / "tuning"
        return PlanMaker(memory, threads=serving.threads_of_a_process, engine=serving.engine)


def _look_once(view: RegistryView) -> None:
    """Read the registry before the first request; without a database the process still starts, and says not ready."""
    try:
        view.refresh()
    except LeanfuseError as away:
        log.warning("registry_unreadable", reason=away.detail)
