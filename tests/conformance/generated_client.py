"""Use a client that openapi-python-client generated from our document; run where it is importable as `leanfuse`."""

import json
import sys
from typing import Any

from leanfuse import Client
from leanfuse.api.ensembles import list_ensembles
from leanfuse.api.jobs import create_job
from leanfuse.api.models import get_version, list_models, set_alias
from leanfuse.api.predictions import classify, get_ensemble_predictions, predict
from leanfuse.models import MLP, AliasIn, Examples, ExamplesExamplesItem, PredictRows, TrainingSpec, TrainSpec

ROW = [[[0.0], [1.0]], [[2.0], [3.0]]]


def ask(client: Client) -> dict[str, Any]:
    small = TrainingSpec(batch_size=4, epochs=1)
    spec = TrainSpec(kind="train", name="pets-new", dataset="pets", architecture=MLP(type_="mlp"), training=small)
    example = ExamplesExamplesItem.from_dict({"x": [0.0, 1.0, 2.0, 3.0]})
    return {
        "models": [model.name for model in list_models.sync(client=client).models],
        "ensembles": [len(one.members) for one in list_ensembles.sync(client=client).ensembles],
        "version": get_version.sync("pets-mlp", 1, client=client).to_dict(),
        "predictions": predict.sync("pets-mlp", client=client, body=PredictRows(instances=[ROW])).predictions,
        "classes": classify.sync("pets-mlp", client=client, body=Examples(examples=[example])).results,
        "refused": predict.sync("pets-mlp", client=client, body=PredictRows(instances=[[1.0]])).type_,
        "checked": create_job.sync(client=client, body=spec, validate_only=True).parameters,
        "submitted": create_job.sync(client=client, body=spec).state,
        "alias": set_alias.sync("pets-mlp", "stable", client=client, body=AliasIn(version=1)).aliases,
        "fused": [
            {"label": row.label, "actual": row.actual, "members": len(row.members)}
            for row in get_ensemble_predictions.sync(
                "pets-duo", client=client, dataset="pets", limit=2, members=True, uncertainty=True
            ).predictions
        ],
    }


if __name__ == "__main__":
    print(json.dumps(ask(Client(base_url=sys.argv[1], raise_on_unexpected_status=True))))
