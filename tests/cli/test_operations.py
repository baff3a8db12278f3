"""Every operation of our own API has a method, which really sends that method and path; types name every field."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.client import Client, Job, documents
from app.main import create_app

OPENAPI = create_app().openapi()
# The Open Inference Protocol and MLflow's registry have clients of their own; of them only `infer` is ours too.
OTHERS = ("/v2", "/api/2.0/", "/api/3.0/", "/mlflow")
DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def operations() -> dict[str, tuple[str, str]]:
    """Return method and path of every operation of our own API, by operationId."""
    return {
        operation["operationId"]: (method.upper(), path)
        for path, item in OPENAPI["paths"].items()
        if not path.startswith(OTHERS)
        for method, operation in item.items()
    }


def calls(client: Client, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what a user would write for each operation."""
    file = folder / "file"
    file.touch()
    return {**calls_of_work(client, file), **calls_of_answers(client), **calls_of_the_registry(client, file)}


def calls_of_work(client: Client, file: Path) -> dict[str, Callable[[], object]]:
    jobs, datasets = client.jobs, client.datasets
    return {
        "get_liveness": client.live,
        "get_readiness": client.ready,
        "get_service_version": client.version,
        "get_metrics": client.metrics,
        "list_problems": client.problems,
        "get_problem": lambda: client.problem("not-found"),
        "add_dataset": lambda: datasets.upload(file, name="pets"),
        "list_datasets": lambda: list(datasets.list()),
        "get_dataset": lambda: datasets.get("pets"),
        "get_dataset_rows": lambda: datasets.rows("pets"),
        "create_job": lambda: jobs.submit({"kind": "train"}),
        "list_jobs": lambda: list(jobs.list(state="queued")),
        "get_job": lambda: jobs.get("7"),
        "get_job_metrics": lambda: jobs.metrics("7"),
        "download_result": lambda: jobs.download("7", file),
        "cancel_job": lambda: jobs.cancel("7"),
        "retry_job": lambda: jobs.retry("7"),
        "stream_job_events": lambda: list(jobs.events("7")),
        "get_job_plot": lambda: jobs.plot("7"),
    }


def calls_of_answers(client: Client) -> dict[str, Callable[[], object]]:
    models, ensembles, rows, example = client.models, client.ensembles, [[1.0]], [{"x": [1.0]}]
    return {
        "predict": lambda: models["pets"].predict(rows),
        "predict_version": lambda: models["pets/3"].predict(rows),
        "predict_alias": lambda: models["pets@champion"].predict(rows),
        "predict_ensemble": lambda: ensembles["duo"].predict(rows),
        "predict_ensemble_version": lambda: ensembles["duo/3"].predict(rows),
        "predict_ensemble_alias": lambda: ensembles["duo@champion"].predict(rows),
        "classify": lambda: models["pets"].classify(example),
        "classify_version": lambda: models["pets/3"].classify(example),
        "classify_alias": lambda: models["pets@champion"].classify(example),
        "regress": lambda: models["pets"].regress(example),
        "regress_version": lambda: models["pets/3"].regress(example),
        "regress_alias": lambda: models["pets@champion"].regress(example),
        "get_model_openapi": models["pets"].openapi,
        "get_version_openapi": models["pets/3"].openapi,
        "get_alias_openapi": models["pets@champion"].openapi,
        "get_model_metadata": models["pets"].metadata,
        "get_version_metadata": models["pets/3"].metadata,
        "get_alias_metadata": models["pets@champion"].metadata,
        "get_ensemble_predictions": lambda: ensembles["duo"].predictions(dataset="pets"),
        "get_model_predictions": lambda: list(models["pets"].walk_predictions(dataset="pets")),
    }


def calls_of_the_registry(client: Client, file: Path) -> dict[str, Callable[[], object]]:
    models, ensembles = client.models, client.ensembles
    return {
        "list_models": lambda: list(models.list()),
        "import_model": lambda: models.import_onnx(file, name="pets", dataset="pets"),
        "get_model": lambda: models.get("pets"),
        "update_model": lambda: models.describe("pets", "Tells pets apart."),
        "list_versions": lambda: list(models.versions("pets")),
        "get_version": lambda: models.version("pets", 3),
        "update_version": lambda: models.tag("pets", 3, {"team": "vision"}),
        "delete_version": lambda: models.delete("pets", 3),
        "get_version_by_alias": models["pets@champion"].version,
        "get_report": lambda: models.report("pets", 3),
        "get_lineage": lambda: models.lineage("pets", 3),
        "list_plots": lambda: models.plots("pets", 3),
        "get_plot_svg": lambda: models["pets/3"].plot("confusion"),
        "get_plot_png": lambda: models["pets/3"].plot("confusion", form="png"),
        "get_comparison_svg": lambda: models.comparison_plot(dataset="pets"),
        "get_comparison_png": lambda: models.comparison_plot(form="png", dataset="pets"),
        "download_artifact": lambda: models.download("pets", 3, "model.onnx", file),
        "set_alias": lambda: models.set_alias("pets", "champion", 3),
        "delete_alias": lambda: models.delete_alias("pets", "champion"),
        "get_alias_history": lambda: models.alias_history("pets", "champion"),
        "rollback_alias": lambda: models.roll_back("pets", "champion"),
        "put_rollout": lambda: models.roll_out("pets", "champion", 3),
        "get_rollout": lambda: models.rollout("pets", "champion"),
        "delete_rollout": lambda: models.end_rollout("pets", "champion"),
        "promote_alias": lambda: models.promote("pets", "champion", 3, require={"max_drop": 0.01}),
        "list_ensembles": lambda: list(ensembles.list()),
        "get_ensemble": lambda: ensembles.get("duo"),
        "get_ensemble_version": lambda: ensembles.version("duo", 3),
        "compare_models": lambda: models.compare(x=["bytes"], dataset="pets"),
    }


@pytest.mark.parametrize("operation", sorted(operations()))
def test_each_operation_has_a_method_that_sends_it(operation: str, tmp_path: Path) -> None:
    sent = list[tuple[str, str]]()

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.path))
        if request.url.path.endswith("/events"):
            return httpx.Response(200, text="event: done\ndata: {}\n\n")
        if request.url.path.endswith(("/result", "/artifacts/model.onnx")):
            return httpx.Response(200, headers={"ETag": f'"{DIGEST}"'})
        collections = ("datasets", "jobs", "models", "versions", "ensembles", "predictions", "plots")
        return httpx.Response(200, json={key: [] for key in collections})

    with Client("http://leanfuse.test", transport=httpx.MockTransport(answer)) as client:
        calls(client, tmp_path)[operation]()
    method, path = operations()[operation]
    pattern = re.sub(r"\\\{\w+\\\}", "[^/:]+", re.escape(path))
    assert [found for found in sent if found[0] == method and re.fullmatch(pattern, found[1])] == sent


def properties(schema: str) -> set[str]:
    return set(OPENAPI["components"]["schemas"][schema]["properties"])


def fields_of(kind: type) -> set[str]:
    return set(kind.__annotations__)


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ("DatasetOut", documents.Dataset),
        ("DatasetSchema", documents.Schema),
        ("DatasetRow", documents.DatasetRow),
        ("DatasetRows", documents.DatasetRows),
        ("Problem", documents.Problem),
        ("WrongField", documents.WrongField),
        ("ProblemKind", documents.ProblemKind),
        ("Progress", documents.Progress),
        ("VersionName", documents.Result),
        ("JobMetrics", documents.JobMetrics),
        ("ValidatedSpec", documents.ValidatedSpec),
        ("Metrics", documents.Metrics),
        ("TensorOut", documents.Tensor),
        ("FileOut", documents.File),
        ("VersionOut", documents.Version),
        ("ModelOut", documents.Model),
        ("LinkOut", documents.Link),
        ("LineageOut", documents.Lineage),
        ("AliasChangeOut", documents.AliasChange),
        ("AliasHistory", documents.AliasHistory),
        ("RolloutOut", documents.Rollout),
        ("Entry", documents.Entry),
        ("Leaderboard", documents.Leaderboard),
        ("RowPredictions", documents.Predictions),
        ("RowPrediction", documents.RowPrediction),
        ("MemberPrediction", documents.MemberPrediction),
        ("Predictions", documents.PredictedRows),
        ("EnsembleOut", documents.Ensemble),
        ("MemberOut", documents.Member),
        ("GainOut", documents.Gain),
        ("Classified", documents.Classified),
        ("Regressed", documents.Regressed),
        ("Version", documents.Service),
    ],
)
def test_a_type_names_exactly_the_fields_of_the_document(schema: str, kind: type) -> None:
    assert fields_of(kind) == properties(schema)


def test_a_job_knows_the_fields_of_its_document() -> None:
    known = properties("JobOut")
    read = {name for name, value in vars(Job).items() if isinstance(value, property)}
    assert read - {"reference"} <= known
