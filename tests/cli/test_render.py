"""What the commands write about versions, from documents as the service sends them."""

from typing import Any

from app.cli.models import compared_row, speed_fields, state_of, told_best
from app.cli.render import result_reference

ENTRY: dict[str, Any] = {
    "name": "digits-int8",
    "version": 2,
    "state": "rejected",
    "method": "quantize",
    "accuracy": 0.95,
    "accuracy_interval": [0.93, 0.97],
    "rmse": None,
    "latency_ms": 0.5,
    "bytes": 20_000,
    "gzip_bytes": None,
    "parameters": 12_345,
    "pareto": True,
    "indistinguishable_from": ["digits-cnn/1"],
}
LIMITS = {"max_bytes": 100.0}


def test_a_rejected_version_is_shown_with_its_reason() -> None:
    assert state_of({"state": "rejected", "rejected": "2 points worse"}) == "rejected: 2 points worse"
    assert state_of({"state": "ready", "rejected": None}) == "ready"


def test_a_line_of_the_leaderboard_says_what_is_rejected_on_the_front_and_alike() -> None:
    assert compared_row(ENTRY, "A") == (
        "A",
        "digits-int8/2 (rejected)",
        "quantize",
        "95.0 [93.0, 97.0]",
        "0.500",
        "20.0 kB",
        "",
        "12,345",
        "digits-cnn/1",
    )


def test_what_the_times_show_is_told_by_batch_size() -> None:
    speed: dict[str, Any] = {"against": "its parent cnn/1"}
    for size, ratio, verdict in ((1, 1.0, "no difference shown"), (32, 1.5, "faster")):
        figures = {"ratio": ratio, "verdict": verdict}
        speed |= {f"{name}_batch_{size}": value for name, value in figures.items()}
        speed[f"ratio_batch_{size}_interval"] = [ratio - 0.1, ratio + 0.1]
    assert speed_fields(speed) == {
        "time, batch 1": "no difference shown (1.00x, 95 % 0.90 to 1.10) against its parent cnn/1",
        "time, batch 32": "faster (1.50x, 95 % 1.40 to 1.60) against its parent cnn/1",
    }
    assert speed_fields({}) == speed_fields({"against": "cnn/1", "ratio_batch_1": 1.0}) == {}


def test_a_job_says_that_its_version_was_rejected() -> None:
    result = {"name": "digits-int8", "version": 2, "state": "ready"}
    assert result_reference({"result": result}) == "digits-int8/2"
    assert result_reference({"result": {**result, "state": "rejected"}}) == "digits-int8/2 (rejected)"
    assert result_reference({"result": None}) == ""


def test_a_regression_is_shown_by_its_error() -> None:
    assert compared_row({**ENTRY, "accuracy": None, "accuracy_interval": None, "rmse": 0.123456}, "·")[3] == "0.1235"


def test_the_best_or_what_comes_nearest_is_told() -> None:
    board = {"limits": LIMITS, "best": ENTRY, "nearest_miss": None}
    assert told_best(board) == {"best within max_bytes=100": "digits-int8/2"}
    assert told_best({**board, "limits": {}}) == {"best": "digits-int8/2"}
    assert told_best({**board, "best": None}) == {"best within max_bytes=100": "none"}
    miss = {"name": "digits-cnn", "version": 1, "misses": {"max_bytes": {"limit": 100.0, "value": 150.0}}}
    assert told_best({**board, "best": None, "nearest_miss": miss}) == {
        "best within max_bytes=100": "none",
        "nearest": "digits-cnn/1 (max_bytes: 150 for 100)",
    }
