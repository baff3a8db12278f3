"""MLflow's model registry, so that its own clients work on the same models, versions and aliases."""

from app.api.mlflow.errors import PREFIXES, error_response
from app.api.mlflow.routes import routers

ROUTERS = routers()
ERROR_FORMS = dict.fromkeys(PREFIXES, error_response)
