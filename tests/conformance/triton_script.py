"""Use Triton's own HTTP client as its examples do. Runs in .venv-clients: `python triton_script.py URL`."""

import json
import sys
from collections.abc import Callable

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

ROWS = np.random.default_rng(0).normal(size=(3, 2, 2, 1)).astype(np.float32)


def main(url: str) -> None:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        for check in CHECKS:
            check(client)
            print(check.__name__)


def tensor(rows: np.ndarray = ROWS, datatype: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput("x", list(rows.shape), datatype)
    given.set_data_from_numpy(rows, binary_data=binary)
    return given


def probabilities(client: triton.InferenceServerClient, model: str = "pets-cnn", **given: object) -> np.ndarray:
    return client.infer(model, [tensor()], **given).as_numpy("probabilities")


def health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    server = client.get_server_metadata()
    assert server["name"] == "leanfuse"
    assert "binary_tensor_data" in server["extensions"]
    assert client.is_model_ready("pets-cnn")
    assert client.is_model_ready("pets-cnn", "champion")
    assert not client.is_model_ready("nobody")
    model = client.get_model_metadata("pets-cnn")
    assert model["versions"] == ["1", "2", "3"]
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2, 2, 1]}]
    assert model["outputs"][0] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    assert client.get_model_metadata("pets-cnn", "1")["name"] == "pets-cnn"
    config = client.get_model_config("pets-cnn", "2")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [2, 2, 1]}]
    assert config["max_batch_size"] > 0


def binary_and_json_agree(client: triton.InferenceServerClient) -> None:
    told = client.infer("pets-cnn", [tensor()], request_id="seven")
    assert (told.get_response()["model_name"], told.get_response()["model_version"]) == ("pets-cnn", "2")
    assert told.get_response()["id"] == "seven"
    expected = told.as_numpy("probabilities")
    assert expected.shape == (3, 3)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    for sent in (True, False):
        for wanted in (True, False):
            output = triton.InferRequestedOutput("probabilities", binary_data=wanted)
            answer = client.infer("pets-cnn", [tensor(binary=sent)], outputs=[output])
            np.testing.assert_array_equal(answer.as_numpy("probabilities"), expected)
            assert ("data" in answer.get_output("probabilities")) is not wanted


def other_numbers_are_taken(client: triton.InferenceServerClient) -> None:
    whole = np.arange(8).reshape(2, 2, 2, 1)
    answers = [
        client.infer("pets-cnn", [tensor(whole.astype(dtype), name)]).as_numpy("probabilities")
        for dtype, name in ((np.float32, "FP32"), (np.int64, "INT64"), (np.float16, "FP16"), (np.uint8, "UINT8"))
    ]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def versions_and_aliases(client: triton.InferenceServerClient) -> None:
    first, newest = probabilities(client, model_version="1"), probabilities(client)
    assert np.abs(first - newest).max() > 0.01
    np.testing.assert_array_equal(probabilities(client, model_version="champion"), first)
    np.testing.assert_array_equal(probabilities(client, "pets-cnn@champion"), first)
    assert client.is_model_ready("pets-cnn@champion")
    assert client.get_inference_statistics("pets-cnn", "champion")["model_stats"][0]["version"] == "1"


def compression_both_ways(client: triton.InferenceServerClient) -> None:
    many = np.repeat(ROWS, 200, axis=0)
    expected = client.infer("pets-cnn", [tensor(many)]).as_numpy("probabilities")
    for binary in (True, False):
        output = triton.InferRequestedOutput("probabilities", binary_data=binary)
        for algorithm in ("gzip", "deflate"):
            answer = client.infer(
                "pets-cnn",
                [tensor(many, binary=binary)],
                outputs=[output],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            np.testing.assert_array_equal(answer.as_numpy("probabilities"), expected)


def classification(client: triton.InferenceServerClient) -> None:
    expected = probabilities(client)
    for binary in (True, False):
        output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
        told = client.infer("pets-cnn", [tensor()], outputs=[output]).as_numpy("probabilities")
        assert told.shape == (3, 2)
        for row, classes in zip(expected, told, strict=True):
            texts = [text.decode() if isinstance(text, bytes) else text for text in classes]
            value, index, label = texts[0].split(":")
            assert int(index) == row.argmax()
            assert label == ("cat", "dog", "owl")[int(index)]
            assert abs(float(value) - row.max()) < 1e-5
            assert float(texts[1].split(":")[0]) <= float(value)


def outputs_of_an_ensemble(client: triton.InferenceServerClient) -> None:
    names = ["member.0.probabilities", "member.1.probabilities", "weights", "entropy", "disagreement"]
    answer = client.infer("pets-duo", [tensor()])
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["probabilities"], "the fused one alone"
    outputs = [triton.InferRequestedOutput(name) for name in ["probabilities", "mutual_information", *names]]
    more = client.infer("pets-duo", [tensor()], outputs=outputs)
    members = np.stack([more.as_numpy(name) for name in names[:2]])
    weights = more.as_numpy("weights")
    assert weights.dtype == np.float64
    np.testing.assert_allclose(np.tensordot(weights, members, 1), answer.as_numpy("probabilities"), rtol=1e-5)
    assert more.as_numpy("entropy").shape == more.as_numpy("mutual_information").shape == (3,)
    assert (more.as_numpy("entropy") >= 0).all()


def texts_as_bytes(client: triton.InferenceServerClient) -> None:
    texts = ["hello", "grüße", ""]
    padded = np.zeros((3, 16), np.uint8)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text.encode())] = list(text.encode())
    expected = client.infer("notes-cnn", [tensor(padded, "UINT8")]).as_numpy("probabilities")
    given = np.array([text.encode() for text in texts], dtype=np.object_)
    for binary in (True, False):
        for shaped in (given, given.reshape(3, 1)):
            answer = client.infer("notes-cnn", [tensor(shaped, "BYTES", binary=binary)])
            np.testing.assert_array_equal(answer.as_numpy("probabilities"), expected)


def raw_bytes(client: triton.InferenceServerClient) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    answer = client._post("v2/models/pets-cnn/infer", ROWS[:1].tobytes(), headers, None)
    length = int(answer.get("Inference-Header-Content-Length"))
    result = triton.InferResult.from_response_body(answer.read(), header_length=length)
    np.testing.assert_allclose(result.as_numpy("probabilities"), probabilities(client)[:1], rtol=1e-5)


def timeout_and_priority(client: triton.InferenceServerClient) -> None:
    assert probabilities(client, timeout=30_000_000, priority=1).shape == (3, 3)


def repository(client: triton.InferenceServerClient) -> None:
    index = {(item["name"], item["version"]): item for item in client.get_model_repository_index()}
    assert index["pets-cnn", "2"]["state"] == "READY"
    assert index["pets-cnn", "3"]["state"] == "UNAVAILABLE"
    assert "2.1 points worse" in index["pets-cnn", "3"]["reason"]
    client.load_model("pets-cnn")
    assert client.get_inference_statistics("pets-cnn", "2")["model_stats"][0]["memory_usage"]
    client.load_model(
        "pets-cnn", config=json.dumps({"max_batch_size": client.get_model_config("pets-cnn")["max_batch_size"]})
    )
    client.unload_model("pets-cnn")
    assert not client.get_inference_statistics("pets-cnn", "2")["model_stats"][0]["memory_usage"]
    assert client.is_model_ready("pets-cnn"), "it is loaded again when it is asked"
    assert probabilities(client).shape == (3, 3)


def statistics(client: triton.InferenceServerClient) -> None:
    def counted() -> dict:
        return client.get_inference_statistics("pets-duo", "1")["model_stats"][0]

    before = counted()
    client.infer("pets-duo", [tensor()])
    after = counted()
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] == 1
        assert after["inference_stats"][name]["ns"] > before["inference_stats"][name]["ns"]
    assert after["last_inference"] >= before["last_inference"] > 0
    assert 3 in [batch["batch_size"] for batch in after["batch_stats"]]
    every = client.get_inference_statistics()["model_stats"]
    assert {"pets-cnn", "pets-duo", "notes-cnn"} <= {item["name"] for item in every}


def refusals(client: triton.InferenceServerClient) -> None:
    expect("404", "no model", lambda: client.infer("nobody", [tensor()]))
    expect("404", "no alias", lambda: client.infer("pets-cnn", [tensor()], model_version="nobody"))
    expect("404", "no model", lambda: client.get_model_metadata("nobody"))
    expect("400", "`x`", lambda: client.infer("pets-cnn", [tensor(ROWS[:, 0])]))
    expect("400", "finite", lambda: client.infer("pets-cnn", [tensor(ROWS * np.float32("nan"))]))
    expect("400", "no output", lambda: client.infer("pets-cnn", [tensor()], outputs=[triton.InferRequestedOutput("y")]))
    expect("501", "configuration", lambda: client.load_model("pets-cnn", config='{"max_batch_size": 1}'))
    expect("404", "no model", lambda: client.unload_model("nobody"))


def expect(code: str, text: str, call: Callable[[], object]) -> None:
    refused = refusal_of(call)
    assert refused is not None, f"{text} was not refused"
    assert code in str(refused.status()), refused
    assert text in refused.message(), refused


def refusal_of(call: Callable[[], object]) -> InferenceServerException | None:
    try:
        call()
    except InferenceServerException as refused:
        return refused
    return None


CHECKS = (
    health_and_metadata,
    binary_and_json_agree,
    other_numbers_are_taken,
    versions_and_aliases,
    compression_both_ways,
    classification,
    outputs_of_an_ensemble,
    texts_as_bytes,
    raw_bytes,
    timeout_and_priority,
    repository,
    statistics,
    refusals,
)

if __name__ == "__main__":
    main(sys.argv[1])
