"""Use KServe's own REST client as its documentation does. Runs in .venv-clients: `python kserve_script.py URL`."""

import asyncio
import sys
from collections.abc import Awaitable

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

ROWS = np.random.default_rng(0).normal(size=(3, 2, 2, 1)).astype(np.float32)


def request(*, binary: bool, model: str = "pets-cnn", rows: np.ndarray = ROWS) -> InferRequest:
    given = InferInput("x", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[given], request_id="seven")


async def main(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "pets-cnn")
    assert not await client.is_model_ready(url, "nobody")
    answers = {}
    for binary in (True, False):
        for model in ("pets-cnn", "pets-cnn@champion", "pets-duo"):
            sent = request(binary=binary, model=model)
            answer = await client.infer(url, sent, model_name=model)
            assert answer.id == "seven"
            assert answer.model_name == model.partition("@")[0]
            (output,) = answer.outputs
            answers[model, binary] = output.as_numpy()
            assert answers[model, binary].shape == (3, 3)
    for model in ("pets-cnn", "pets-cnn@champion", "pets-duo"):
        np.testing.assert_array_equal(answers[model, True], answers[model, False])
    assert np.abs(answers["pets-cnn", True] - answers["pets-cnn@champion", True]).max() > 0.01
    refused = await refusal_of(client.infer(url, request(binary=False, rows=ROWS[:, 0]), model_name="pets-cnn"))
    assert refused is not None, "a wrong shape was not refused"
    assert refused.response.status_code == 400
    assert "`x` takes FP32 [-1, 2, 2, 1]; got FP32 [3, 2, 1]" in str(refused), refused
    await client.close()
    print("done")


async def refusal_of(call: Awaitable[object]) -> httpx.HTTPStatusError | None:
    try:
        await call
    except httpx.HTTPStatusError as refused:
        return refused
    return None


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
