"""What weights score on the selection rows, by which choices are made: the report rows stay unseen."""

import numpy as np

from app.domain.fusion import mean_squared_error, negative_log_likelihood
from app.domain.network import Network
from app.domain.surgery.rewriting import Weights
from app.serving.runtime import predict_rows
from worker.learning import engine_of
from worker.rows import Array, Data


def selection_loss(network: Network, weights: Weights, data: Data) -> float:
    """Return the loss of a network on the selection rows: the mean of -log p, or the mean squared error."""
    return _loss(_answers(network, weights, data), data)


def selection_figures(network: Network, weights: Weights, data: Data) -> dict[str, float]:
    """Return what a network scores on the selection rows: its loss, and its accuracy or root mean squared error."""
    answers, targets = _answers(network, weights, data), np.asarray(data.y["selection"])
    loss = _loss(answers, data)
    if data.classification:
        return {"selection_accuracy": float((answers.argmax(axis=1) == targets).mean()), "selection_loss": loss}
    return {"selection_rmse": loss**0.5, "selection_loss": loss}


def _answers(network: Network, weights: Weights, data: Data) -> Array:
    return predict_rows(engine_of(network, weights), data.x["selection"], data.output)


def _loss(answers: Array, data: Data) -> float:
    targets = np.asarray(data.y["selection"])
    if data.classification:
        return negative_log_likelihood(answers.astype(np.float64), targets)
    return mean_squared_error(answers.astype(np.float64), targets.reshape(answers.shape))
