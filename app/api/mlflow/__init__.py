"""MLflow's model registry, so that its own clients work on the same models, versions and aliases."""

from app.api.mlflow.errors import PREFIXES, described_errors, error_response
from app.api.mlflow.routes import routers
from app.api.problems import ErrorForm

ROUTERS = routers()
ERROR_FORMS = dict.fromkeys(PREFIXES, ErrorForm(error_response, described_errors))
