"""What the tests of the database share."""

import pytest

from app.db.session import Sessions
from tests.factories import make_dataset


@pytest.fixture
def dataset_id(sessions: Sessions) -> str:
    """Register a data set."""
    return make_dataset(sessions)
