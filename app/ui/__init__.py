"""The dashboard: pages for people, made on the server, from the same functions that answer the API."""

from fastapi import FastAPI

from app.ui import compare, datasets, ensembles, jobs, models, overview, problems, serving, trying
from app.ui.rendering import Templates

ROUTERS = tuple(
    part.router for part in (overview, jobs, datasets, models, compare, ensembles, trying, serving, problems)
)


def install_pages(app: FastAPI) -> Templates:
    """Serve the dashboard, and return its templates."""
    app.state.templates = templates = Templates()
    for router in ROUTERS:
        app.include_router(router)
    return templates
