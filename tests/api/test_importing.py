"""Uploaded models over HTTP: what is accepted, what is refused, and that a refused one leaves nothing behind."""

import io
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from starlette.testclient import TestClient

from app.importing.safety import stored_numbers
from tests.api.builders import Registry, assert_problem, single_graph

Change = Callable[[onnx.ModelProto], Any]


def post(client: TestClient, content: bytes, filename: str = "model.onnx", **fields: Any) -> Any:
    data = {"name": "theirs", "dataset": "pets", **fields}
    return client.post("/v1/models", data=data, files={"file": (filename, content)})


def changed(change: Change) -> bytes:
    graph = single_graph(0)
    made = change(graph)
    return bytes((made if isinstance(made, onnx.ModelProto) else graph).SerializeToString())


@pytest.fixture
def pets(client: TestClient, registry: Registry) -> TestClient:
    registry.add_dataset()
    return client


def test_an_onnx_file_becomes_a_job_that_imports_it(pets: TestClient, registry: Registry) -> None:
    content = single_graph(0).SerializeToString()
    answer = post(pets, content, alias="champion", tags='{"from": "elsewhere"}')
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["name"], job["dataset"]) == ("import", "queued", "theirs", "pets")
    spec = job["spec"]
    assert (spec["output"], spec["answers"], spec["alias"]) == ("probabilities", "probabilities", "champion")
    assert registry.store.fetch(spec["file"]["sha256"]).read_bytes() == content
    assert [found["id"] for found in pets.get("/v1/jobs?kind=import").json()["jobs"]] == [job["id"]]


def test_the_same_key_makes_one_job(pets: TestClient) -> None:
    def once(seed: int) -> Any:
        return pets.post(
            "/v1/models",
            data={"name": "theirs", "dataset": "pets"},
            files={"file": ("model.onnx", single_graph(seed).SerializeToString())},
            headers={"Idempotency-Key": "once"},
        )

    first, again = once(0), once(0)
    assert (first.status_code, again.status_code) == (202, 202)
    assert (again.json()["id"], again.headers["Idempotency-Replayed"]) == (first.json()["id"], "true")
    assert_problem(once(1), 422, "idempotency-key-reused")


def test_a_cancelled_import_can_be_retried(pets: TestClient) -> None:
    job = post(pets, single_graph(0).SerializeToString()).json()
    pets.post(f"/v1/jobs/{job['id']}:cancel")
    retried = pets.post(f"/v1/jobs/{job['id']}:retry")
    assert retried.status_code == 202, retried.text
    assert retried.json()["spec"] == job["spec"]


def test_an_import_is_no_job_to_post(refusing: TestClient) -> None:
    answer = refusing.post("/v1/jobs", json={"kind": "import", "name": "theirs", "dataset": "pets"})
    assert "POST /v1/models" in assert_problem(answer, 422, "unknown-component")["hint"]


def outside(place: str) -> Change:
    def change(graph: onnx.ModelProto) -> None:
        tensor = next(found for found in graph.graph.initializer if found.name == "kernel")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    return change


def outside_an_attribute(graph: onnx.ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["secret"], value=numpy_helper.from_array(np.zeros(3, np.float32)))
    constant.attribute[0].t.external_data.add(key="location", value="/etc/passwd")
    graph.graph.node.insert(0, constant)


def operator(name: str, domain: str = "") -> Change:
    def change(graph: onnx.ModelProto) -> None:
        graph.graph.node[-1].op_type = name
        graph.graph.node[-1].domain = domain
        if domain:
            graph.opset_import.append(helper.make_opsetid(domain, 1))

    return change


def cyclic(graph: onnx.ModelProto) -> None:
    graph.graph.node[0].input[0] = "logits"


def control_flow(graph: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["logits"], ["kept"])], "inner", [], [])
    graph.graph.node.append(helper.make_node("If", ["logits"], ["never"], then_branch=inner, else_branch=inner))


def of_opset(version: int) -> Change:
    def change(graph: onnx.ModelProto) -> None:
        graph.opset_import[0].version = version

    return change


def two_inputs(graph: onnx.ModelProto) -> None:
    graph.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", 1]))


def fixed_batch(graph: onnx.ModelProto) -> None:
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8


def of_text(graph: onnx.ModelProto) -> None:
    graph.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def ambiguous(graph: onnx.ModelProto) -> None:
    for place, name in enumerate(("first", "second")):
        graph.graph.node.append(helper.make_node("Identity", ["logits"], [name]))
        graph.graph.output[place].name = name


@pytest.mark.parametrize(
    ("change", "slug", "told"),
    [
        (outside("weights.bin"), "unsafe-model", "lie in another file"),
        (outside("../../../etc/passwd"), "unsafe-model", "lie in another file"),
        (outside_an_attribute, "unsafe-model", "lie in another file"),
        (operator("Softmax", "com.microsoft"), "unsafe-model", "com.microsoft"),
        (operator("Shell"), "invalid-model", "Shell"),
        (operator("Multinomial"), "invalid-model", "random"),
        (cyclic, "invalid-model", "not valid"),
        (control_flow, "invalid-model", "control flow"),
        (of_opset(3), "invalid-model", "opset 3"),
        (of_opset(900), "invalid-model", "opset 900"),
        (two_inputs, "invalid-model", "2 inputs"),
        (fixed_batch, "invalid-model", "batch axis"),
        (of_text, "invalid-model", "no numbers"),
        (ambiguous, "invalid-model", "first, second"),
        (lambda _: single_graph(0, shape=(3, 3, 1)), "shape-mismatch", "[3, 3, 1]"),
        (lambda _: single_graph(0, classes=4), "shape-mismatch", "float [batch, 3] is needed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_graph_that_cannot_be_served_is_refused(refusing: TestClient, change: Change, slug: str, told: str) -> None:
    problem = assert_problem(post(refusing, changed(change)), 422, slug)
    assert told in problem["detail"]
    assert problem["hint"]
    assert problem["errors"][0]["pointer"] in {"/file", "/output"}


WHOLE = single_graph(0).SerializeToString()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", WHOLE[:20], WHOLE[: len(WHOLE) // 2], WHOLE[:-1], b"name,label\n1,2\n", bytes(range(256)) * 9],
    ids=["empty", "zero", "head", "half", "one-short", "text", "noise"],
)
def test_bytes_that_are_no_whole_graph_are_refused(refusing: TestClient, content: bytes) -> None:
    assert_problem(post(refusing, content), 422, "invalid-model")


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("config.json", "{}")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "filename", "hint"),
    [
        (pickle.dumps([1]), "model.pkl", "skl2onnx"),
        (pickle.dumps([1]), "model.onnx", "skl2onnx"),
        (b"anything", "forest.joblib", "skl2onnx"),
        (zipped(), "net.pt", "torch.onnx.export"),
        (zipped(), "net.keras", "export"),
        (b"\x89HDF\r\n\x1a\n", "net.h5", "export"),
        (b"\x1c\x00\x00\x00TFL3", "net.tflite", "ONNX"),
        (b"anything", "saved_model.pb", "export"),
    ],
)
def test_other_formats_are_refused_with_how_to_convert_them(
    refusing: TestClient, content: bytes, filename: str, hint: str
) -> None:
    problem = assert_problem(post(refusing, content, filename), 415, "unsupported-model-format")
    assert hint in problem["hint"]


@pytest.mark.parametrize(
    ("fields", "slug", "pointer"),
    [
        ({"dataset": "nowhere"}, "dataset-not-found", "/dataset"),
        ({"name": "../x"}, "invalid-name", "/name"),
        ({"colour": "red"}, "unknown-field", "/colour"),
        ({"answers": "votes"}, "unknown-component", "/answers"),
        ({"output": "nothing"}, "invalid-model", "/output"),
        ({"classes": '["cat", "dog", "fox"]'}, "shape-mismatch", "/classes"),
        ({"classes": "cat"}, "invalid-request", "/classes"),
    ],
)
def test_wrong_options_are_told_by_field(refusing: TestClient, fields: dict[str, str], slug: str, pointer: str) -> None:
    problem = assert_problem(post(refusing, WHOLE, **fields), 422, slug)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_form_without_a_file_and_a_body_that_is_no_form_are_refused(refusing: TestClient) -> None:
    form = {"name": (None, "theirs"), "dataset": (None, "pets")}
    assert_problem(refusing.post("/v1/models", files=form), 422, "invalid-request")
    assert_problem(refusing.post("/v1/models", json={"name": "theirs"}), 415, "unsupported-media-type")
    assert_problem(post(refusing, b"\x08" * 2_100_000), 413, "payload-too-large")


def test_a_model_with_more_numbers_than_the_limit_is_refused(
    settings: Any, client: TestClient, registry: Registry
) -> None:
    graph = single_graph(0)
    assert stored_numbers(graph) == 4 * 3 + 3
    graph.graph.initializer.append(TensorProto(name="huge", data_type=TensorProto.FLOAT, dims=[10**6, 10**6]))
    registry.add_dataset()
    assert_problem(post(client, graph.SerializeToString()), 422, "model-too-large")


def parallel(*models: str, **options: Any) -> dict[str, Any]:
    method = {"method": "parallel", "members": [{"model": model} for model in models], **options}
    return {"kind": "ensemble", "name": "all", "dataset": "pets", "method": method}


def test_an_ensemble_among_the_members_gives_way_to_its_own(pets: TestClient, registry: Registry) -> None:
    registry.add_ensemble("duo", weights=(0.25, 0.75))
    registry.add_model("solo")
    answer = pets.post("/v1/jobs", json=parallel("duo", "solo", "duo-m1", weights=[4, 2, 1]))
    assert answer.status_code == 202, answer.text
    method = answer.json()["spec"]["method"]
    assert [member["model"] for member in method["members"]] == ["duo-m0/1", "duo-m1/1", "solo/1"]
    assert method["weights"] == [1, 4, 2]


def test_an_imported_member_cannot_be_stacked(pets: TestClient, registry: Registry) -> None:
    registry.add_network("own", {"type": "mlp"})
    registry.add_model("theirs", method="import")
    spec = parallel("own", "theirs")
    spec["method"]["method"] = "stack"
    problem = assert_problem(pets.post("/v1/jobs", json=spec), 422, "invalid-ensemble")
    assert problem["errors"][0]["pointer"] == "/method/members/1/model"
    assert "'theirs'" in problem["detail"]


@pytest.fixture
def moved(pets: TestClient, registry: Registry) -> TestClient:
    """Add a model with the labels of the data set in another order, and one with other labels."""
    registry.add_model("own")
    registry.add_dataset("reversed", classes=("owl", "dog", "cat"))
    registry.add_dataset("wild", classes=("cat", "dog", "fox"))
    registry.add_model("turned", dataset="reversed")
    registry.add_model("foreign", dataset="wild")
    return pets


def test_a_member_with_its_labels_in_another_order_is_accepted(moved: TestClient) -> None:
    assert moved.post("/v1/jobs", json=parallel("own", "turned")).status_code == 202


def test_a_member_with_other_labels_is_refused_by_name(moved: TestClient) -> None:
    problem = assert_problem(moved.post("/v1/jobs", json=parallel("own", "foreign")), 422, "shape-mismatch")
    assert problem["detail"] == "foreign/1 lacks 'owl'. foreign/1 has besides 'fox'."
    assert problem["errors"][0]["pointer"] == "/method/members/1/model"


def test_a_parent_keeps_the_order_of_its_labels(moved: TestClient) -> None:
    method = {"method": "quantize", "parent": "turned"}
    spec = {"kind": "optimize", "name": "new", "dataset": "pets", "method": method}
    assert_problem(moved.post("/v1/jobs", json=spec), 422, "shape-mismatch")
