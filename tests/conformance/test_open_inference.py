"""The clients of Triton and KServe work unchanged."""

from collections.abc import Callable


def test_tritons_client_works_unchanged(run_client: Callable[[str], str]) -> None:
    checks = run_client("triton_script.py").split()
    assert checks[0] == "health_and_metadata"
    assert checks[-1] == "refusals"
    assert len(checks) == 13


def test_kserves_client_works_unchanged(run_client: Callable[[str], str]) -> None:
    assert run_client("kserve_script.py").split()[-1] == "done"
