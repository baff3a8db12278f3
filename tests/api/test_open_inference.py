"""The Open Inference Protocol: whatever is sent, the answer is what its clients read, and nothing is changed."""

import gzip
import re
import zlib
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import numpy as np
import orjson
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api.deps import Services
from app.serving.inputs import MOST_ROWS
from app.serving.pool import EnginePool
from app.serving.predictor import Predictor
from tests.api.builders import Registry
from tests.api.conftest import Refusing
from tests.api.test_bad_inputs import BlockedMaker

INFER = "/v2/models/pets-cnn/infer"
LENGTH = "Inference-Header-Content-Length"
FLAT = [0.0, 1.0, 2.0, 3.0]


def tensor(data: Any = FLAT, shape: Any = (1, 2, 2, 1), datatype: Any = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}


def request(*args: Any, **more: Any) -> dict[str, Any]:
    return {"inputs": [tensor(*args)], **more}


def outputs(*names: str, **parameters: Any) -> dict[str, Any]:
    return request(outputs=[{"name": name, "parameters": parameters} for name in names])


def values(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer.json()["outputs"]}


def assert_refused(answer: httpx.Response, code: int, text: str = "") -> str:
    """Check that the clients of others can read a refusal, and that it tells nothing of the inside."""
    assert answer.status_code == code, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["error"]
    told: str = answer.json()["error"]
    assert re.search(text, told), told
    for leak in ("Traceback", "site-packages", "sqlalchemy", "numpy", "pydantic", "/tmp"):
        assert leak not in told
    return told


BODIES: list[tuple[str, Any, int, str]] = [
    ("no inputs", {}, 400, "`inputs` is missing"),
    ("an empty list of inputs", {"inputs": []}, 400, "got none"),
    ("another input", {"inputs": [tensor() | {"name": "y"}]}, 400, "one input, `x` FP32 .*got `y`"),
    ("one input twice", {"inputs": [tensor(), tensor()]}, 400, "got `x`, `x`"),
    ("an input without a name", {"inputs": [{"shape": [1]}]}, 400, "no `name`"),
    ("an input that is none", {"inputs": [7]}, 400, "no object"),
    ("a list", [tensor()], 400, "no object"),
    ("too few axes", request(FLAT, [1, 4]), 400, r"`x` takes FP32 \[-1, 2, 2, 1\]; got FP32 \[1, 4\]"),
    ("no axes", request(FLAT, []), 400, "takes FP32"),
    ("channels first", request(FLAT, [1, 1, 2, 2]), 400, "takes FP32"),
    ("a shape that is none", request(FLAT, [1, -2, 2, 1]), 400, "no list of sizes"),
    ("a shape of booleans", request(FLAT, [True, 2, 2, 1]), 400, "no list of sizes"),
    ("a shape of a number", request(FLAT, 4), 400, "no list of sizes"),
    ("a shape without an end", request(FLAT, [1] * 100), 400, "no list of sizes"),
    ("no datatype", request(FLAT, (1, 2, 2, 1), None), 400, "no `datatype`"),
    ("an unknown datatype", request(FLAT, (1, 2, 2, 1), "FP12"), 400, "'FP12' is no datatype.*FP32"),
    ("no data", {"inputs": [{"name": "x", "shape": [1, 2, 2, 1], "datatype": "FP32"}]}, 400, "no `data`"),
    ("null", request(None), 400, "`data` is no list"),
    ("too few values", request([1, 2, 3]), 400, r"`data` has the shape \[3\]"),
    ("too many values", request([1] * 5), 400, r"\[5\]"),
    ("no values", request([]), 400, r"\[0\]"),
    ("no rows", request([], [0, 2, 2, 1]), 400, "no rows"),
    ("ragged rows", request([[[[0], [1]], [[2]]]]), 400, "differ in length"),
    ("values beside lists", request([1, [2, 3, 4]]), 400, "differ in length"),
    ("other nesting", request([[1, 2, 3, 4]]), 400, r"\[1, 4\]"),
    ("text", request([0, "a", 2, 3]), 400, "no FP32"),
    ("null within", request([0, None, 2, 3]), 400, "no FP32"),
    ("true", request([0, True, 2, 3]), 400, "true and false are BOOL"),
    ("objects", request([{}, {}, {}, {}]), 400, "no FP32"),
    ("numbers for BOOL", request([0, 1, 0, 1], (1, 2, 2, 1), "BOOL"), 400, "no BOOL"),
    ("300 for UINT8", request([0, 1, 300, 3], (1, 2, 2, 1), "UINT8"), 400, r"`x`: \[0\]\[1\]\[0\]\[0\] is 300.*UINT8"),
    ("a fraction for INT32", request([0, 1, 0.5, 3], (1, 2, 2, 1), "INT32"), 400, "0.5.*INT32"),
    ("an integer that FP32 cannot hold", request([0, 1, 2, 2**24 + 1], (1, 2, 2, 1), "INT64"), 400, "16777217.*FP32"),
    ("a number beyond 32 bits", request([0, 1, 2, 1e300]), 400, r"\[0\]\[1\]\[1\]\[0\] is 1e\+300"),
    ("FP16 in JSON", request(FLAT, (1, 2, 2, 1), "FP16"), 400, "binary data"),
    ("BF16 in JSON", request(FLAT, (1, 2, 2, 1), "BF16"), 400, "binary data"),
    ("texts", request(["a"], [1], "BYTES"), 400, "takes FP32.*got BYTES"),
    ("too many rows", request([0], [MOST_ROWS + 1, 2, 2, 1]), 413, "10,001 rows"),
    ("an id that is none", request(id=7), 400, "`id`"),
    ("parameters that are none", request(parameters=[]), 400, "`parameters`"),
    ("a timeout that is none", request(parameters={"timeout": -1}), 400, "`timeout`"),
    ("a priority that is none", request(parameters={"priority": "high"}), 400, "`priority`"),
    ("a flag that is none", request(parameters={"binary_data_output": 1}), 400, "`binary_data_output`"),
    ("non_finite", request(parameters={"non_finite": "zero"}), 400, "`error` or `null`"),
    ("outputs that are none", request(outputs={}), 400, "`outputs`"),
    ("an output without a name", request(outputs=[{}]), 400, "no `name`"),
    ("another output", outputs("probability"), 400, "no output.*`probabilities`"),
    ("an output of ensembles", outputs("disagreement"), 400, "no output"),
    ("classes that are none", outputs("probabilities", classification=-1), 400, "`classification`"),
    ("classes of what has none", outputs("entropy", classification=1), 400, "no classes"),
    ("binary data that is not there", {"inputs": [{**tensor(), "parameters": {"binary_data_size": 16}}]}, 400, "both"),
    ("shared memory", request(outputs=[{"name": "a", "parameters": {"shared_memory_region": "r"}}]), 501, "shared"),
]


@pytest.mark.parametrize(("body", "code", "text"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_a_wrong_body_is_refused(refusing: TestClient, body: Any, code: int, text: str) -> None:
    assert_refused(refusing.post(INFER, json=body), code, text)


JSON_OF = '{"inputs": [{"name": "x", "shape": [1, 2, 2, 1], "datatype": "FP32", "data": %s}]}'


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "UTF-8"),
        (b"[" * 100_000, 400, "nested"),
        ((JSON_OF % "[0, NaN, 2, 3]").encode(), 400, r"\[0\]\[0\]\[1\]\[0\] is nan.*finite FP32"),
        ((JSON_OF % "[0, 1e999, 2, 3]").encode(), 400, r"\[0\]\[0\]\[1\]\[0\] is inf"),
        ((JSON_OF % ("[" * 500 + "true" + "]" * 500)).encode(), 400, ""),
        ((JSON_OF % ("[NaN, " + "9" * 5000 + "]")).encode(), 400, "does not fit 64 bits"),
        ((JSON_OF % ("[" + "0," * 3000 + "0]")).encode(), 400, r"\[3001\]"),
        ((JSON_OF % ("[" + "0," * 3000 + "true]")).encode(), 400, "BOOL"),
        (b'{"id": "\\ud800"}', 400, ""),
        (b" " * 10_000_000, 413, "1,000,000 bytes"),
    ],
    ids=[
        "empty",
        "cut off",
        "not UTF-8",
        "without bottom",
        "NaN",
        "1e999",
        "deep",
        "NaN and digits",
        "large",
        "large with true",
        "half a surrogate pair",
        "10 MB",
    ],
)
def test_a_broken_body_is_refused(refusing: TestClient, body: bytes, code: int, text: str) -> None:
    assert_refused(refusing.post(INFER, content=body), code, text)


def binary_request(array: Any, *, size: int | None = None, datatype: str = "FP32") -> tuple[bytes, dict[str, str]]:
    """Write a request with one binary tensor, and its headers."""
    parameters = {"binary_data_size": array.nbytes if size is None else size}
    given = {"name": "x", "shape": array.shape, "datatype": datatype, "parameters": parameters}
    head = orjson.dumps({"inputs": [given]})
    return head + array.tobytes(), {LENGTH: str(len(head))}


ROWS = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
BINARY: list[tuple[str, Any, int, str]] = [
    ("a size beyond the body", binary_request(ROWS, size=40), 400, "`x` announces 40 bytes .* 32 more"),
    ("a size below the body", binary_request(ROWS, size=28), 400, "4 bytes follow .*`x`"),
    ("a size that is none", binary_request(ROWS, size=-1), 400, "`binary_data_size` is -1"),
    ("another datatype", binary_request(ROWS, datatype="FP64"), 400, "`x` has 32 bytes .* 64"),
    ("texts", binary_request(ROWS, datatype="BYTES"), 400, "got BYTES"),
    ("NaN", binary_request(ROWS * np.float32("nan")), 400, r"\[0\]\[0\]\[0\]\[0\] is nan"),
    ("no header", (binary_request(ROWS)[0], {}), 400, "not"),
    ("a header beyond the body", (b"{}", {LENGTH: "3"}), 400, LENGTH),
    ("a header that is none", (b"{}", {LENGTH: "-1"}), 400, LENGTH),
    ("a header without an end", (b"{}", {LENGTH: "9" * 5000}), 400, LENGTH),
    ("too few raw bytes", (bytes(15), {LENGTH: "0"}), 400, "15 bytes .* 16"),
    ("rows of raw bytes", (bytes(32), {LENGTH: "0"}), 400, "32 bytes .* 16"),
    ("no raw bytes", (b"", {LENGTH: "0"}), 400, "0 bytes"),
]


@pytest.mark.parametrize(("sent", "code", "text"), [case[1:] for case in BINARY], ids=[case[0] for case in BINARY])
def test_wrong_binary_data_is_refused(refusing: TestClient, sent: Any, code: int, text: str) -> None:
    assert_refused(refusing.post(INFER, content=sent[0], headers=sent[1]), code, text)


BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (BOMB, {"Content-Encoding": "gzip"}, 413),
        (zlib.compress(bytes(50_000_000)), {"Content-Encoding": "deflate"}, 413),
        (BOMB[:-20], {"Content-Encoding": "gzip"}, 413),
        (gzip.compress(b"{}")[:-4], {"Content-Encoding": "gzip"}, 400),
        (b"plain", {"Content-Encoding": "gzip"}, 400),
        (b"plain", {"Content-Encoding": "deflate"}, 400),
        (b"plain", {"Content-Encoding": "br"}, 415),
        (b"plain", {"Content-Encoding": "gzip, gzip"}, 415),
        (b"{}", {"Content-Type": "image/png"}, 415),
        (b"{}", {"Host": "evil.example"}, 400),
    ],
    ids=[
        "bomb",
        "deflated bomb",
        "bomb cut off",
        "cut off",
        "no gzip",
        "no deflate",
        "brotli",
        "twice",
        "image",
        "host",
    ],
)
def test_wrong_headers_and_bombs_are_refused(
    refusing: TestClient, body: bytes, headers: dict[str, str], code: int
) -> None:
    assert_refused(refusing.post(INFER, content=body, headers=headers), code)


@pytest.mark.parametrize("model", ["nobody", "pets-cnn@nobody", "pets-cnn/versions/9", "pets-cnn/versions/nobody"])
@pytest.mark.parametrize("verb", ["", "/infer", "/ready", "/config", "/stats"])
def test_a_model_that_is_not_there_is_told(refusing: TestClient, model: str, verb: str) -> None:
    method = "POST" if verb == "/infer" else "GET"
    assert_refused(refusing.request(method, f"/v2/models/{model}{verb}", json=request()), 404, "There is no|has no")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", INFER, 405),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/repository/index", 405),
        ("GET", "/v2/nothing", 404),
        ("POST", "/v2/models/Pets/infer", 404),
        ("POST", "/v2/models/pets-cnn/versions/.champion/infer", 404),
        ("POST", "/v2/models/pets-cnn@a@b/infer", 404),
        ("POST", "/v2/models/pets-cnn@a/versions/1/infer", 404),
        ("POST", "/v2/models/pets%00cnn/infer", 404),
        ("POST", "/v2/models/pets%ff/infer", 404),
        ("POST", "/v2/repository/models/nobody/load", 404),
        ("POST", "/v2/repository/models/nobody/unload", 404),
    ],
)
def test_a_path_that_is_not_there_is_told(refusing: TestClient, method: str, path: str, code: int) -> None:
    answer = refusing.request(method, path)
    assert_refused(answer, code)
    assert ("Allow" in answer.headers) is (code == 405)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("index", "{", 400),
        ("index", "[]", 400),
        ("index", '{"ready": 1}', 400),
        ("models/pets-cnn/load", '{"parameters": 7}', 400),
        ("models/pets-cnn/load", '{"parameters": {"config": "{"}}', 400),
        ("models/pets-cnn/load", '{"parameters": {"config": "[]"}}', 400),
        ("models/pets-cnn/load", '{"parameters": {"config": "{\\"backend\\": \\"python\\"}"}}', 501),
        ("models/pets-cnn/load", '{"parameters": {"file:1/model.onnx": "aGk="}}', 501),
    ],
)
def test_a_wrong_call_of_the_repository_is_refused(refusing: TestClient, path: str, body: str, code: int) -> None:
    assert_refused(refusing.post(f"/v2/repository/{path}", content=body), code)


def test_an_accident_is_told_in_the_same_form(shared: Refusing) -> None:
    app: Any = shared.client.app
    services: Services = app.state.services
    app.state.services = replace(services, view=None)
    try:
        assert_refused(shared.client.post(INFER, json=request()), 500, "could not be answered")
    finally:
        app.state.services = services


def test_flat_and_nested_values_answer_like_our_own_api(refusing: TestClient) -> None:
    expected = refusing.post("/v1/models/pets-cnn:predict", json={"instances": np.reshape(FLAT, (1, 2, 2, 1)).tolist()})
    for data in (FLAT, np.reshape(FLAT, (1, 2, 2, 1)).tolist()):
        answer = refusing.post(INFER, json=request(data, id="seven", model_name="pets-cnn"))
        assert values(answer)["probabilities"].tolist() == expected.json()["predictions"]
        told = answer.json()
        assert (told["model_name"], told["model_version"], told["id"]) == ("pets-cnn", "1", "seven")
        assert told["parameters"] == {"digest": expected.json()["digest"]}
    assert "id" not in refusing.post(INFER, json=request()).json()


def test_no_media_type_is_needed(refusing: TestClient) -> None:
    assert refusing.post(INFER, content=orjson.dumps(request())).status_code == 200


def test_both_spellings_of_the_server_answer_and_health_says_live_and_ready(refusing: TestClient) -> None:
    assert refusing.get("/v2").json() == refusing.get("/v2/").json()
    assert refusing.get("/v2/health/ready").json() == {"ready": True, "live": True}
    assert refusing.get("/v2/models").json()["models"] == sorted(refusing.get("/v2/models").json()["models"])
    assert refusing.get("/v2/models/pets-cnn/ready").json() == {"name": "pets-cnn", "ready": True}


def test_an_ensemble_answers_more_where_it_is_asked(refusing: TestClient) -> None:
    names = [output["name"] for output in refusing.get("/v2/models/pets-duo").json()["outputs"]]
    assert names[:3] == ["probabilities", "member.0.probabilities", "member.1.probabilities"]
    assert {"entropy", "mutual_information", "mean_member_entropy", "disagreement", "weights"} == set(names[3:])
    found = values(refusing.post("/v2/models/pets-duo/infer", json=outputs(*names)))
    assert list(found) == names
    members = np.stack([found["member.0.probabilities"], found["member.1.probabilities"]])
    np.testing.assert_allclose(np.tensordot(found["weights"], members, 1), found["probabilities"], rtol=1e-5)
    detail = refusing.get("/v1/ensembles/pets-duo/predictions?x=0,1,2,3&uncertainty=true").json()
    for name, value in detail["predictions"][0]["uncertainty"].items():
        assert found[name].tolist() == [pytest.approx(value)]
    alone = refusing.post("/v2/models/pets-duo/infer", json=outputs("disagreement", "weights"))
    assert values(alone)["disagreement"].tolist() == found["disagreement"].tolist()


def test_values_that_are_not_finite_are_refused_in_json_or_null(refusing: TestClient) -> None:
    huge = request([3e38, -3e38, 3e38, -3e38])
    assert_refused(refusing.post(INFER, json=huge), 400, "`probabilities` has values that are not finite")
    answer = refusing.post(INFER, json={**huge, "parameters": {"non_finite": "null"}})
    assert None in answer.json()["outputs"][0]["data"]
    binary = refusing.post(INFER, json={**huge, "parameters": {"binary_data_output": True}})
    assert np.isnan(np.frombuffer(binary.content[int(binary.headers[LENGTH]) :], "<f4")).any()


def test_replies_are_compressed_where_it_pays(refusing: TestClient) -> None:
    many = request(FLAT * 500, (500, 2, 2, 1))
    plain = refusing.post(INFER, json=many, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    for encoding in ("gzip", "deflate"):
        answer = refusing.post(INFER, json=many, headers={"Accept-Encoding": encoding})
        assert answer.headers["Content-Encoding"] == encoding
        assert answer.content == plain.content
        assert int(answer.headers["Content-Length"]) < len(plain.content)
    assert "Content-Encoding" not in refusing.post(INFER, json=request()).headers


@pytest.fixture
def pets(registry: Registry, services: Services) -> Registry:
    registry.add_dataset()
    registry.add_model()
    services.view.refresh()
    return registry


def test_a_rejected_version_is_not_ready_and_answers_by_its_number(
    client: TestClient, pets: Registry, services: Services
) -> None:
    pets.add_model("pets-tiny", rejected="2.1 points worse")
    services.view.refresh()
    answer = client.get("/v2/models/pets-tiny/ready")
    assert_refused(answer, 503, "2.1 points worse")
    assert "Retry-After" not in answer.headers, "waiting does not help"
    assert_refused(client.post("/v2/models/pets-tiny/infer", json=request()), 503, "rejected")
    assert client.post("/v2/models/pets-tiny/versions/1/infer", json=request()).status_code == 200
    assert client.get("/v2/models").json() == {"models": ["pets-cnn"]}
    index = client.post("/v2/repository/index").json()
    assert [(entry["name"], entry["state"]) for entry in index] == [("pets-cnn", "READY"), ("pets-tiny", "UNAVAILABLE")]
    assert [entry["name"] for entry in client.post("/v2/repository/index", json={"ready": True}).json()] == ["pets-cnn"]
    assert client.post("/v2/repository/models/pets-tiny/unload").status_code == 200


def test_a_deleted_version_is_not_found(client: TestClient, pets: Registry) -> None:
    pets.add_model(seed=2)
    assert client.delete("/v1/models/pets-cnn/versions/1").status_code == 204
    assert_refused(client.post("/v2/models/pets-cnn/versions/1/infer", json=request()), 404, "deleted")


def test_a_damaged_graph_is_unavailable(client: TestClient, pets: Registry, services: Services) -> None:
    digest = services.view.versions("pets-cnn")[0].manifest.files["model.onnx"].sha256
    path = services.store.fetch(digest)
    path.chmod(0o600)
    path.write_bytes(b"damaged")
    assert_refused(client.post(INFER, json=request()), 503)
    assert_refused(client.post("/v2/repository/models/pets-cnn/load"), 503)


def test_a_timeout_ends_what_takes_longer(app: FastAPI, client: TestClient, pets: Registry, services: Services) -> None:
    maker = BlockedMaker()
    pool = EnginePool(services.store, maker, metrics=services.metrics)  # type: ignore[arg-type]
    predictor = Predictor(pool, metrics=services.metrics, threads=1, most_waiting_rows=2)
    app.state.services = replace(services, predictor=predictor)
    try:
        answer = client.post(INFER, json=request(parameters={"timeout": 200_000, "priority": 1}))
        assert_refused(answer, 504, "0.2 seconds")
        counted = client.get("/v2/models/pets-cnn/stats").json()["model_stats"][0]["inference_stats"]
        assert (counted["fail"]["count"], counted["success"]["count"]) == (1, 0)
    finally:
        maker.engine.free.set()
        predictor.close()


def test_no_model_is_called_like_a_path_of_the_protocol(client: TestClient, pets: Registry) -> None:
    spec = {"kind": "train", "name": "stats", "dataset": "pets", "architecture": {"type": "mlp"}}
    answer = client.post("/v1/jobs", json=spec)
    assert answer.status_code == 422
    assert "stats" in answer.json()["detail"]
