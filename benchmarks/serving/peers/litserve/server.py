"""A LitServe API with its own batches."""

import os

import litserve
import numpy as np
from sessions import answer, parts_of, sessions


class Graphs(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        sessions()

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array(request["instances"], dtype=np.float32)

    def batch(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        return np.concatenate(inputs), [len(rows) for rows in inputs]

    def predict(self, x: tuple[np.ndarray, list[int]]) -> tuple[np.ndarray, list[int]]:
        rows, counts = x
        return answer(rows), counts

    def unbatch(self, output: tuple[np.ndarray, list[int]]) -> list[np.ndarray]:
        return parts_of(*output)

    def encode_response(self, output: np.ndarray) -> dict:
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    api = Graphs(max_batch_size=16, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        num_api_servers=1,
        generate_client_file=False,
    )
