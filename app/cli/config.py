"""The user's own defaults: flags go before the environment, the environment before `config.toml`."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from app.domain.errors import InvalidRequestError

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_SECONDS = 60.0
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "url": ((str,), "a text such as 'http://127.0.0.1:8000'"),
    "timeout_seconds": ((int, float), "a number of seconds above 0"),
    "quiet": ((bool,), "true or false"),
}


class Config(NamedTuple):
    """Hold what a user said once, for every command."""

    url: str = DEFAULT_URL
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    quiet: bool = False


def config_path() -> Path:
    """Return where the file is looked for: $XDG_CONFIG_HOME/leanfuse/config.toml, or below ~/.config."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".config") / "leanfuse" / "config.toml"


def read_config() -> Config:
    """Return the file's values, overruled by LEANFUSE_URL, LEANFUSE_TIMEOUT_SECONDS and LEANFUSE_QUIET."""
    path = config_path()
    given = _read(path)
    for name, value in given.items():
        _check(path, name, value)
    return Config(**{**given, **_environment()})


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{path} cannot be read: {error}.", hint="Mend it, or delete it.") from error


def _check(path: Path, name: str, value: object) -> None:
    from app.domain.explain import suggest

    if name not in _KINDS:
        raise InvalidRequestError(f"{path}: there is no setting `{name}`.", hint=suggest(name, sorted(_KINDS)))
    kinds, expected = _KINDS[name]
    is_wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
    if is_wrong or (isinstance(value, int | float) and bool not in kinds and value <= 0):
        raise InvalidRequestError(f"{path}: `{name}` is {value!r}.", hint=f"Write {expected}.")


def _environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    if url := os.environ.get("LEANFUSE_URL"):
        found["url"] = url
    if seconds := os.environ.get("LEANFUSE_TIMEOUT_SECONDS"):
        found["timeout_seconds"] = _seconds(seconds)
    if quiet := os.environ.get("LEANFUSE_QUIET"):
        found["quiet"] = quiet.lower() not in {"0", "false", "no"}
    return found


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InvalidRequestError(
            f"LEANFUSE_TIMEOUT_SECONDS is {text[:40]!r}.", hint=f"Write {_KINDS['timeout_seconds'][1]}."
        )
    return seconds
