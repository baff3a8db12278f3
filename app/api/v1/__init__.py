"""Version 1 of our own API."""

from fastapi import APIRouter

from app.api.v1 import aliases, compare, datasets, ensembles, events, jobs, models, predict, predictions


def make_router() -> APIRouter:
    """Return all routes under `/v1`."""
    router = APIRouter(prefix="/v1")
    for part in (datasets, jobs, events, predict, predictions, models, aliases, ensembles, compare):
        router.include_router(part.router)
    return router
