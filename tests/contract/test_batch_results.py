"""The files of batch predictions, on both databases: handed over once, lent to equal jobs."""

import pytest

from app.db.attempts import claim
from app.db.base import new_id
from app.db.jobs import NewJob, get_job, submit
from app.db.results import finish_with_file
from app.db.retiring import delete_version
from app.db.session import Sessions, reading
from app.db.tables import Blob
from app.domain.errors import StillReferencedError
from app.domain.predict_specs import PredictionFile
from tests.factories import END, TIMING, claim_job, file_ref, get_row, make_dataset, sha256, train

RESULT = PredictionFile(
    format="csv",
    rows=2,
    file=file_ref("answers"),
    model="digits-cnn",
    version=1,
    digest=sha256("version"),
    dataset="digits",
    dataset_digest=sha256("dataset"),
    set="report",
)


def predict(sessions: Sessions, dataset_id: str, recipe: str = "answers") -> str:
    """Submit a batch prediction of digits-cnn/1."""
    spec = {"kind": "predict", "name": "answers", "model": "digits-cnn/1", "dataset": "digits"}
    new = NewJob("predict", "answers", spec, recipe_digest=sha256(recipe), dataset_id=dataset_id)
    with sessions.begin() as session:
        return submit(session, new).id


def test_a_file_is_kept_once_and_only_by_whoever_holds_the_job(sessions: Sessions) -> None:
    job_id = predict(sessions, make_dataset(sessions))
    lease = claim_job(sessions).lease
    assert finish_with_file(sessions, lease._replace(token=0), RESULT, end=END).outcome == "fenced"
    assert get_row(sessions, job_id).result_file is None
    for _ in range(2):
        assert finish_with_file(sessions, lease, RESULT, end=END).outcome == "succeeded"
    with reading(sessions) as session:
        found = get_job(session, job_id).job
        assert PredictionFile.model_validate(found.result_file) == RESULT
        assert session.get_one(Blob, RESULT.file.sha256).size_bytes == RESULT.file.size_bytes


def test_an_equal_job_takes_the_file_when_it_is_submitted_or_claimed(sessions: Sessions) -> None:
    dataset_id = make_dataset(sessions)
    predict(sessions, dataset_id)
    waiting = predict(sessions, dataset_id)
    lease = claim_job(sessions).lease
    assert claim(sessions, new_id(), timing=TIMING) is None
    finish_with_file(sessions, lease, RESULT, end=END)
    later = predict(sessions, dataset_id)
    assert claim(sessions, new_id(), timing=TIMING) is None
    other = predict(sessions, dataset_id, recipe="another")
    for job_id in (waiting, later):
        row = get_row(sessions, job_id)
        assert (row.state, row.attempts) == ("succeeded", 0)
        assert PredictionFile.model_validate(row.result_file) == RESULT
    assert get_row(sessions, other).state == "queued"


def test_a_version_stays_while_a_job_is_to_ask_it(sessions: Sessions) -> None:
    dataset_id = make_dataset(sessions)
    train(sessions, dataset_id)
    job_id = predict(sessions, dataset_id)
    with pytest.raises(StillReferencedError, match=job_id), sessions.begin() as session:
        delete_version(session, "digits-cnn", 1)
    finish_with_file(sessions, claim_job(sessions).lease, RESULT, end=END)
    with sessions.begin() as session:
        delete_version(session, "digits-cnn", 1)
