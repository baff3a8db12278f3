"""What weights score on the selection rows, by which choices are made: the report rows stay unseen."""

import numpy as np

from app.domain.network import Network
from app.domain.surgery.rewriting import Weights
from app.serving.runtime import predict_rows
from worker.ensemble.members import loss_of
from worker.learning import engine_of
from worker.rows import Array, Data


def selection_loss(network: Network, weights: Weights, data: Data) -> float:
    """Return the loss of a network on the selection rows: the mean, by row weight, of -log p or of squared errors."""
    return loss_of(
        _answers(network, weights, data), data.y["selection"], data, row_weights=data.weights.get("selection")
    )


def selection_figures(network: Network, weights: Weights, data: Data) -> dict[str, float]:
    """Return what a network scores on the selection rows: its loss, and its accuracy or root mean squared error.

    Row weights count in the loss alone, by which choices are made.
    """
    answers, targets = _answers(network, weights, data), np.asarray(data.y["selection"])
    loss = loss_of(answers, targets, data, row_weights=data.weights.get("selection"))
    if data.classification:
        return {"selection_accuracy": float((answers.argmax(axis=1) == targets).mean()), "selection_loss": loss}
    return {"selection_rmse": loss_of(answers, targets, data) ** 0.5, "selection_loss": loss}


def _answers(network: Network, weights: Weights, data: Data) -> Array:
    return predict_rows(engine_of(network, weights), data.x["selection"], data.output).astype(np.float64)
