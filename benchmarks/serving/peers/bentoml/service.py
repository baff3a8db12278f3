"""A BentoML service with its own adaptive batches."""

import bentoml
import numpy as np
from sessions import answer, sessions


@bentoml.service(workers=2)
class Graphs:
    def __init__(self) -> None:
        sessions()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, instances: np.ndarray) -> np.ndarray:
        return answer(instances)
