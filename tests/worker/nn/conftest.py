import warnings

import pytest


@pytest.fixture(scope="session", autouse=True)
def _keras() -> None:
    """Import Keras once, quietly: its own imports warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        keras.config.disable_traceback_filtering()
