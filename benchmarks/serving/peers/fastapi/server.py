"""Plain FastAPI with orjson, no batches: what one writes in an afternoon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from sessions import answer, sessions


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    sessions()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/predict")
async def predict(request: Request) -> Response:
    rows = np.array(orjson.loads(await request.body())["instances"], dtype=np.float32)
    body = orjson.dumps({"predictions": answer(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")
