"""Flags before the environment, the environment before config.toml."""

from pathlib import Path

import pytest

from app.cli.config import Config, config_path, read_config
from app.cli.main import main
from app.domain.errors import InvalidRequestError
from tests.cli.conftest import Small


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a config file that this test alone sees."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("LEANFUSE_URL", "LEANFUSE_TIMEOUT_SECONDS", "LEANFUSE_QUIET"):
        monkeypatch.delenv(name, raising=False)
    path = config_path()
    path.parent.mkdir()
    return path


def test_without_a_file_there_are_defaults(config: Path) -> None:
    assert read_config() == Config()


def test_the_file_is_below_the_home_without_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert config_path() == Path.home() / ".config" / "leanfuse" / "config.toml"


def test_the_environment_overrules_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('url = "http://one:1"\ntimeout_seconds = 5\nquiet = true\n', encoding="utf-8")
    assert read_config() == Config("http://one:1", 5, quiet=True)
    monkeypatch.setenv("LEANFUSE_URL", "http://two:2")
    monkeypatch.setenv("LEANFUSE_TIMEOUT_SECONDS", "2.5")
    monkeypatch.setenv("LEANFUSE_QUIET", "0")
    assert read_config() == Config("http://two:2", 2.5, quiet=False)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('urll = "http://one:1"', "Did you mean `url`"),
        ("url = 3", "a text"),
        ("timeout_seconds = true", "seconds above 0"),
        ("timeout_seconds = 0", "seconds above 0"),
        ('quiet = "yes"', "true or false"),
        ("url = ", "Mend it"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_how_to_mend_it(config: Path, text: str, hint: str) -> None:
    config.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequestError) as caught:
        read_config()
    assert str(config) in caught.value.detail
    assert hint in caught.value.hint


def test_a_mistake_in_the_environment_is_told(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANFUSE_TIMEOUT_SECONDS", "soon")
    with pytest.raises(InvalidRequestError, match="soon"):
        read_config()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_commands_find_the_service_that_the_file_names(
    config: Path, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(f'url = "{small.url}"\n', encoding="utf-8")
    assert run("models", "ls") == 0
    assert "pets-cnn" in capsys.readouterr().out
    assert run("models", "ls", "--url", "http://127.0.0.1:9") == 5


def test_quiet_leaves_data_and_errors(config: Path, small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    spec = ["train", "--dataset", "pets", "--architecture", "mlp", "-s", "training.batch_size=4", "--url", small.url]
    assert run(*spec) == 0
    assert "leanfuse jobs watch" in capsys.readouterr().err
    config.write_text("quiet = true\n", encoding="utf-8")
    for quiet in ((*spec,), ("-q", *spec), (*spec, "--quiet")):
        assert run(*quiet) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        assert "queued" in shown.out
    assert run("--quiet", "models", "show", "nobody", "--url", small.url) == 3
    assert "nobody" in capsys.readouterr().err
