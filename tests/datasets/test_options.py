"""Options are bounded, and each says what is wrong with it."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.datasets.options import IngestOptions
from app.datasets.sniff import check_content_digest
from app.domain.errors import MalformedRequestError
from app.domain.upload_errors import DigestMismatchError


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "../x"}, "pattern"),
        ({"colour": 1}, "Extra inputs"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": "1"}, "valid integer"),
        ({"split": {"train": 0.5, "selection": 0.2, "report": 0.2}}, "add up to 1"),
        ({"split": {"train": 1.0, "selection": 0.0, "report": 0.0}}, "less than 1"),
        ({"report_pattern": "("}, "not a regular expression"),
        ({"group_pattern": "abc"}, "one group in parentheses"),
        ({"classes": ["a", "a"]}, "stands twice"),
        ({"classes": ["a"]}, "at least 2"),
        ({"resize": [8, 0]}, "greater than or equal to 1"),
        ({"seconds": 61}, "less than or equal to 60"),
        ({"builtin": "cifar"}, "digits"),
    ],
)
def test_a_wrong_option_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        IngestOptions.model_validate({"name": "set", **changed})


def test_the_content_digest_is_compared(tmp_path: Any) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello")
    check_content_digest(path, "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:")
    check_content_digest(path, "sha-512=:AAAA:")
    with pytest.raises(DigestMismatchError):
        check_content_digest(path, "sha-256=:AAAA:")
    with pytest.raises(MalformedRequestError):
        check_content_digest(path, "sha-256=AAAA")
