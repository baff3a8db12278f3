"""Every registry call of the stock MlflowClient, in one walk; prints what it saw as JSON."""

import hashlib
import json
import sys
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

client = MlflowClient()
seen: dict[str, object] = {}


def refused(action, *arguments, **named):
    """Return the code with which the server refused."""
    try:
        action(*arguments, **named)
    except MlflowException as error:
        return error.error_code
    raise AssertionError(f"{action} was not refused")


def digests(folder: str) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir() if path.is_file()
    }


# Models
made = client.create_registered_model("fresh", tags={"team": "vision"}, description="New.")
seen["made"] = [made.name, made.tags, made.description, made.latest_versions, made.aliases]
seen["twice"] = refused(client.create_registered_model, "fresh")
seen["bad_name"] = refused(client.create_registered_model, "No Name")
seen["updated"] = client.update_registered_model("fresh", "Newer.").description
client.set_registered_model_tag("fresh", "stage", "trial")
client.set_registered_model_tag("fresh", "stage", "live")
client.delete_registered_model_tag("fresh", "team")
seen["tags"] = client.get_registered_model("fresh").tags
client.rename_registered_model("fresh", "fresher")
seen["renamed"] = client.get_registered_model("fresher").description
seen["old_name"] = refused(client.get_registered_model, "fresh")
client.delete_registered_model("fresher")
seen["deleted"] = refused(client.get_registered_model, "fresher")
pets = client.get_registered_model("pets-cnn")
seen["pets"] = [pets.name, [version.version for version in pets.latest_versions], pets.aliases]

# Versions
version = client.get_model_version("pets-cnn", "1")
seen["version"] = [version.version, version.status, version.current_stage, version.source, version.description]
seen["no_version"] = refused(client.get_model_version, "pets-cnn", "99")
seen["described"] = client.update_model_version("pets-cnn", "1", "The first.").description
client.set_model_version_tag("pets-cnn", "1", "seen", "yes")
client.set_model_version_tag("pets-cnn", "1", "gone", "soon")
client.delete_model_version_tag("pets-cnn", "1", "gone")
seen["version_tags"] = client.get_model_version("pets-cnn", "1").tags
seen["latest"] = [found.version for found in client.get_latest_versions("pets-cnn")]
seen["stage"] = refused(client.transition_model_version_stage, "pets-cnn", "1", "Production")
seen["no_stage"] = client.transition_model_version_stage("pets-cnn", "1", "None").version

# Aliases
client.set_registered_model_alias("pets-cnn", "champion", "1")
client.set_registered_model_alias("pets-cnn", "champion", "2")
client.set_registered_model_alias("pets-cnn", "rival", "1")
seen["champion"] = client.get_model_version_by_alias("pets-cnn", "champion").version
seen["aliases"] = client.get_registered_model("pets-cnn").aliases
seen["version_aliases"] = list(client.get_model_version("pets-cnn", "2").aliases)
client.delete_registered_model_alias("pets-cnn", "rival")
client.delete_registered_model_alias("pets-cnn", "rival")
seen["no_alias"] = refused(client.get_model_version_by_alias, "pets-cnn", "rival")
seen["rejected"] = refused(client.set_registered_model_alias, "pets-lost", "champion", "1")

# Searches
for number in range(5):
    client.create_registered_model(f"row-{number}", tags={"place": str(number % 2), "team": "Vision"})
pages, token = [], None
while token is None or token:
    page = client.search_registered_models("name LIKE 'row-%'", max_results=2, order_by=["name DESC"], page_token=token)
    pages.append([model.name for model in page])
    token = page.token or ""
seen["pages"] = pages
FILTERS = [
    "tags.place = '1'",
    "tags.place != '1'",
    "name ILIKE 'ROW-%' AND tag.`team` LIKE 'Vis%'",
    "tags.team LIKE 'vis%'",
    "tags.team ILIKE 'vis%'",
    "name IN ('row-1', 'row-2')",
    "name = 'row-3'",
    "name LIKE 'row_3'",
]
seen["found"] = {text: [model.name for model in client.search_registered_models(text)] for text in FILTERS}
seen["all_models"] = [model.name for model in client.search_registered_models()]
seen["bad_filter"] = refused(client.search_registered_models, "colour = 'red'")
VERSIONS = ["name = 'pets-cnn'", "name = 'pets-cnn' AND version_number > 1", "tags.seen = 'yes'", "run_id = 'nobody'"]
seen["versions"] = {
    text: [[found.name, found.version] for found in client.search_model_versions(text, order_by=["version_number ASC"])]
    for text in VERSIONS
}

# The same version under another name
copy = client.copy_model_version("models:/pets-cnn@champion", "copied")
seen["copy"] = [copy.name, copy.version, copy.status]
again = client.copy_model_version("models:/pets-cnn/1", "copied")
seen["again"] = [again.version, again.tags, again.description]
registered = mlflow.register_model("models:/pets-cnn/1", "registered", tags={"why": "test"})
seen["registered"] = [registered.name, registered.version, registered.tags]
uri = client.get_model_version_download_uri("pets-cnn", "1")
seen["by_uri"] = client.create_model_version("copied", uri, run_id="run-7", run_link="http://x/7").version
seen["by_run"] = [found.version for found in client.search_model_versions("run_id = 'run-7'")]
seen["foreign"] = refused(client.create_model_version, "copied", "/etc/passwd")
seen["runs"] = refused(client.get_run, "abc")

# Files
seen["files"] = digests(mlflow.artifacts.download_artifacts("models:/pets-cnn@champion"))
seen["copied_files"] = digests(mlflow.artifacts.download_artifacts("models:/copied/1"))
seen["latest_files"] = digests(mlflow.artifacts.download_artifacts("models:/pets-cnn/latest"))
seen["one_file"] = Path(mlflow.artifacts.download_artifacts("models:/pets-cnn/1/report.json")).name
seen["packed"] = digests(mlflow.artifacts.download_artifacts("models:/pets-packed/1"))

# Predictions
rows = np.array(json.loads(sys.argv[1]), np.float32)
for name in ("pets-cnn@champion", "pets-packed/1", "pets-duo/1"):
    model = mlflow.pyfunc.load_model(f"models:/{name}")
    seen[f"predicted {name}"] = model.predict(rows)["probabilities"].astype(float).tolist()
seen["signature"] = model.metadata.signature.to_dict()

# The end of a version
client.set_registered_model_alias("copied", "old", "1")
client.delete_model_version("copied", "1")
seen["gone"] = refused(client.get_model_version, "copied", "1")
seen["left"] = client.get_registered_model("copied").aliases
seen["in_use"] = refused(client.delete_model_version, "pets-duo-m0", "1")
json.dump(seen, sys.stdout, default=list)
print()
