"""A small client of the HTTP service.

with Client("http://127.0.0.1:8000") as client:
    client.datasets.add_builtin("digits")
    job = client.jobs.submit(spec).wait()
    probabilities = client.models["digits-cnn@champion"].predict(rows)

Every document is the service's own JSON, with a type that names its fields. Problems are raised as the errors of
`app.domain.errors` that they name. Nothing here needs more than httpx; numpy is imported with the first array.
"""

from app.client.connection import DEFAULT_URL, TRIES, Connection, Document
from app.client.events import Event, parse_events
from app.client.jobs import TERMINAL_STATES, Job, Jobs
from app.client.models import Ensembles, Models
from app.client.problems import error_from, error_of_problem
from app.client.served import ServedModel
from app.client.service import Client, Datasets

__all__ = [
    "DEFAULT_URL",
    "TERMINAL_STATES",
    "TRIES",
    "Client",
    "Connection",
    "Datasets",
    "Document",
    "Ensembles",
    "Event",
    "Job",
    "Jobs",
    "Models",
    "ServedModel",
    "error_from",
    "error_of_problem",
    "parse_events",
]
