"""Version 1 of our own API."""

from app.api.v1 import (
    aliases,
    compare,
    datasets,
    ensembles,
    events,
    imports,
    jobs,
    models,
    plots,
    predict,
    predictions,
    rollouts,
    tensorflow_serving,
)

# Each has the prefix itself: the pattern that requests are counted under is that of a router's own routes.
ROUTERS = tuple(
    part.router
    for part in (
        datasets,
        jobs,
        events,
        predict,
        tensorflow_serving,
        predictions,
        models,
        imports,
        aliases,
        rollouts,
        ensembles,
        compare,
        plots,
    )
)
