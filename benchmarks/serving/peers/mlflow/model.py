"""A pyfunc model; `python model.py FOLDER` saves it for MLflow's scoring server."""

import sys
from pathlib import Path

import mlflow
import numpy as np
from sessions import answer, sessions


class Graphs(mlflow.pyfunc.PythonModel):
    def load_context(self, context: object) -> None:  # noqa: ARG002 - MLflow's signature
        sessions()

    def predict(self, context: object, model_input: np.ndarray, params: dict | None = None) -> np.ndarray:  # noqa: ARG002
        return answer(model_input)


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=str(Path(__file__).resolve()), pip_requirements=[])
else:
    mlflow.models.set_model(Graphs())
