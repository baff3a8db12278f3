"""A Ray Serve deployment with its own batches."""

import os
import signal

import numpy as np
import orjson
import ray
from ray import serve
from sessions import answer, parts_of, sessions
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class Graphs:
    def __init__(self) -> None:
        sessions()

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def predict(self, batch: list[np.ndarray]) -> list[np.ndarray]:
        return parts_of(answer(np.concatenate(batch)), [len(rows) for rows in batch])

    async def __call__(self, request: Request) -> Response:
        rows = np.array(orjson.loads(await request.body())["instances"], dtype=np.float32)
        body = orjson.dumps({"predictions": await self.predict(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")


if __name__ == "__main__":
    ray.init(
        _node_ip_address="127.0.0.1", include_dashboard=False, logging_level="warning", object_store_memory=100 * 2**20
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Graphs.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
