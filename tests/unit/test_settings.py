"""Settings come from the environment, work without any, and keep passwords to themselves."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings


def test_without_settings_everything_lives_under_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEANFUSE_HOME", str(tmp_path))
    settings = Settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/leanfuse.db"
    assert settings.store_url == f"file://{tmp_path}/store"
    assert settings.scaled is False


def test_nested_settings_are_read_with_two_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANFUSE_WORKER__SLOTS", "3")
    monkeypatch.setenv("LEANFUSE_WORKER__DEVICES", '["0", "1"]')
    monkeypatch.setenv("LEANFUSE_TIMING__LEASE_SECONDS", "1.5")
    settings = Settings()
    assert (settings.worker.slots, settings.worker.devices) == (3, ("0", "1"))
    assert settings.timing.self_stop_seconds == 1.25


def test_a_relative_home_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(home=Path(".leanfuse")).home == tmp_path / ".leanfuse"


def test_passwords_stay_out_of_the_repr() -> None:
    settings = Settings(database_url="postgresql+psycopg://lean:secret@db/lean", broker_url="redis://:secret@cache/0")
    assert "secret" not in repr(settings)
    assert settings.scaled


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="slots"):
        Settings.model_validate({"worker": {"slots": 0}})
