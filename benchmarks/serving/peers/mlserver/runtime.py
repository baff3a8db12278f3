"""A custom runtime of MLServer."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from sessions import answer, sessions


class Graphs(MLModel):
    async def load(self) -> bool:
        sessions()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("probabilities", answer(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
