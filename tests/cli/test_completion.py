"""What a shell offers while somebody types."""

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import Small


def offered(url: str, *words: str) -> list[str]:
    """Ask as bash does, and return what it would offer."""
    line = " ".join(["leanfuse", *words])
    ended = subprocess.run(
        [sys.executable, "-c", "from app.cli.main import main; main([])"],
        env={
            **os.environ,
            "LEANFUSE_URL": url,
            "_LEANFUSE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("models", "show", "pets-c"), {"pets-cnn"}),
        (("predict", "pri"), {"prices-mlp"}),
        (("models", "show", "pets-cnn@"), {"pets-cnn@champion"}),
        (("models", "rm", "pets-cnn/"), {"pets-cnn/1", "pets-cnn/2"}),
        (("datasets", "show", "p"), {"pets", "prices"}),
        (("models", "rollback", "pets-cnn", "ch"), {"champion"}),
        (("optimize", "--parent", "pets-d"), {"pets-duo", "pets-duo-m0", "pets-duo-m1"}),
        (("jobs", "wat"), {"watch"}),
    ],
)
def test_names_are_completed_from_the_service(small: Small, words: tuple[str, ...], expected: set[str]) -> None:
    assert set(offered(small.url, *words)) == expected


def test_jobs_are_completed_by_their_ids(small: Small) -> None:
    ids = {job.id for job in small.client.jobs.list()}
    assert ids
    assert set(offered(small.url, "jobs", "show", "")) == ids


def test_a_service_that_is_away_offers_nothing_and_says_nothing() -> None:
    assert offered("http://127.0.0.1:9", "models", "show", "pe") == []
