"""The Open Inference Protocol, version 2, so that the clients of Triton and KServe work unchanged."""

from app.api.problems import ErrorForm
from app.api.v2 import infer, models, repository, stats
from app.api.v2.errors import described_errors, error_response

# What is counted has a path of its own that also fits a model's name, so it comes first.
ROUTERS = tuple(part.router for part in (stats, models, infer, repository))
LANES = (infer.EXPRESS,)
ERROR_FORMS = {"/v2": ErrorForm(error_response, described_errors)}
