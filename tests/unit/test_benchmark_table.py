"""The table of published figures: its job files are jobs, and a claim holds only where what was measured shows it."""

import numpy as np
import onnxruntime
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from app.domain.specs import EnsembleSpec, job_spec_adapter
from app.domain.then import student_name
from benchmarks.learning.foreign import MODELS, linear_of_grams
from benchmarks.learning.judge import judge
from benchmarks.learning.rows import Holds, Row, read_rows, with_needs
from benchmarks.learning.table import page


def row(**holds: object) -> Row:
    return Row("small", "Small", "none", "", "smaller", needs=("large",), against="large", holds=Holds(**holds))


def report(**changes: object) -> dict:
    return {
        "metrics": {"accuracy": 0.92, "accuracy_interval": (0.91, 0.93), "parameters": 100, "served_bytes": 400},
        "gate": {"max_drop": 0.5, "difference": -0.1, "lower_bound": -0.4, "passed": True},
        "speed": {
            "ratio_batch_1": 1.6,
            "ratio_batch_1_interval": (1.4, 1.8),
            "ratio_batch_32": 1.9,
            "ratio_batch_32_interval": (1.2, 2.6),
        },
        **changes,
    }


def test_every_row_has_a_job_that_a_service_takes_and_follows_what_it_needs():
    rows = read_rows()
    assert {entry.name for entry in rows if entry.imported} == set(MODELS)
    for entry in (entry for entry in rows if not entry.imported):
        spec = job_spec_adapter.validate_python(entry.job)
        made = student_name(spec) if isinstance(spec, EnsembleSpec) and spec.then else spec.name
        assert made == entry.name, "the row is named as the model that it makes"
    ordered = [entry.name for entry in with_needs(rows, [entry.name for entry in rows])]
    assert sorted(ordered) == sorted(entry.name for entry in rows)
    for entry in rows:
        assert all(ordered.index(needed) < ordered.index(entry.name) for needed in entry.needs)


@pytest.mark.parametrize(("factor", "holds"), [(1.3, True), (1.5, False)])
def test_faster_holds_by_the_lower_bound_of_the_ratio(factor, holds):
    (claim,) = judge(row(faster=factor), report(), None)
    assert (claim.holds, "1.60x (1.40 to 1.80) at batch 1" in claim.measured) == (holds, True)


def test_non_inferiority_is_what_the_gate_found():
    failed = report(gate={"max_drop": 0.5, "difference": -0.4, "lower_bound": -0.7, "passed": False})
    assert [judge(row(non_inferior=True), found, None)[0].holds for found in (report(), failed)] == [True, False]


def test_a_figure_that_must_be_met_is_met_to_the_hundredth():
    assert [judge(row(accuracy_is=figure), report(), None)[0].holds for figure in (92.0, 92.01)] == [True, False]


def test_pairs_of_bytes_are_found_in_padded_rows_as_scikit_learn_finds_them():
    texts, labels = ["now win £££", "call me now", "win win win", "me? no"], [1, 0, 1, 0]
    found = CountVectorizer(analyzer="char", ngram_range=(1, 2), lowercase=False, binary=True)
    read = [text.encode().decode("latin-1") for text in texts]
    features = normalize(found.fit_transform(read))
    model = LogisticRegression(C=10).fit(features, labels)
    grams = sorted(found.vocabulary_, key=lambda gram: (len(gram), gram))
    kernel = model.coef_[0][[found.vocabulary_[gram] for gram in grams]]
    graph = linear_of_grams([gram.encode("latin-1") for gram in grams], kernel, float(model.intercept_[0]))
    rows = np.array([list(text.encode().ljust(20, b"\0")) for text in texts], np.int64)
    (logits,) = onnxruntime.InferenceSession(graph.SerializeToString()).run(["logits"], {"bytes": rows})
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], model.decision_function(features), atol=1e-5)


def test_smaller_compares_one_figure_of_both_reports():
    large = report(metrics={"accuracy": 0.921, "parameters": 390, "served_bytes": 1600})
    claims = judge(row(smaller={"parameters": 4.0, "served_bytes": 4.0}, points_lost_at_most=0.2), report(), large)
    assert [claim.holds for claim in claims] == [False, True, True]
    assert claims[0].measured == "3.9x (390 to 100)"


def test_an_accuracy_over_seeds_is_judged_by_its_mean_and_interval():
    repeats = {"seeds": [0, 1], "accuracy": {"mean": 0.9, "interval": (0.88, 0.92)}}
    met, missed = (
        judge(row(interval_meets=wanted), report(repeats=repeats), None)[0] for wanted in ((91.0, 95.0), (93.0, 95.0))
    )
    assert (met.holds, missed.holds) == (True, False)


def test_the_page_lists_every_claim_of_a_row():
    claims = [{"text": "a", "measured": "1x", "holds": True}, {"text": "b", "measured": "2x", "holds": False}]
    result = {"accuracy": 92.0, "interval": [91.0, 93.0], "seeds": 3, "claims": claims}
    lines = page([row()], {"small": result}).splitlines()
    assert lines[2] == "| Small (`small`) | none |  | 92.00 (91.00 to 93.00, 3 seeds) | a | 1x | yes |"
    assert lines[3] == "|  |  |  |  | b | 2x | **no** |"
