"""Every setting of Leanfuse: environment variables `LEANFUSE_*`, nested with `__`, all with a working default."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain.jobs import Timing

Backend = Literal["tensorflow", "torch", "jax"]
MEBIBYTE = 2**20


def _database_under_home(values: dict[str, Any]) -> str:
    return f"sqlite:///{values['home'] / 'leanfuse.db'}" if "home" in values else ""


def _store_under_home(values: dict[str, Any]) -> str:
    return (values["home"] / "store").as_uri() if "home" in values else ""


class WorkerSettings(BaseModel):
    """Say how much one worker host does at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slots: int = Field(1, ge=1, le=256, description="Trainers that run side by side on this host.")
    devices: tuple[str, ...] = Field((), description="CUDA device of each slot, in order; empty: the backend chooses.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads of one trainer; default: its share of the cores."
    )
    trainer_command: tuple[str, ...] = Field(
        (), description="Command that starts a trainer, to wrap it; default: this Python with `-m worker.trainer`."
    )
    warm: bool = Field(default=True, description="Keep the next trainer ready with Keras imported.")

    @property
    def threads_of_a_slot(self) -> int:
        """Return the threads that one trainer may use."""
        return self.threads or max(1, (os.cpu_count() or 1) // self.slots)


class ServingSettings(BaseModel):
    """Say how predictions are served by one API process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(1, ge=1, le=256, description="API processes of `leanfuse up`.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads of one process's predictions; default: its share of the cores."
    )
    engine: Literal["auto", "onnxruntime", "openvino"] = Field(
        "auto", description="auto: whichever is measured to be faster for a model and a batch size."
    )
    tune: bool = Field(default=True, description="Measure engines, threads and batch sizes of every model once.")
    most_waiting_rows: int = Field(4096, ge=1, description="Rows that may wait; more are refused with 503.")
    deadline_seconds: float = Field(60.0, gt=0, le=3600, description="Longest time of one prediction.")
    loading_seconds: float = Field(20.0, gt=0, le=3600, description="Longest wait for a model that is being loaded.")
    memory_bytes: int = Field(2048 * MEBIBYTE, ge=1, description="Memory of loaded models; the longest unused go.")
    pinned: tuple[str, ...] = Field(
        (), description="Models loaded at the start and kept: `name`, `name/3` or `name@champion`."
    )

    logged_share: float = Field(0.0, ge=0, le=1, description="Share of all predictions that are noted in the log.")

    @property
    def threads_of_a_process(self) -> int:
        """Return the threads that run predictions in one process: workers times threads never exceeds the cores."""
        return self.threads or max(1, (os.cpu_count() or 1) // self.workers)


class StoreSettings(BaseModel):
    """Say how a store elsewhere is reached; credentials are read where AWS's own tools read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(None, description="URL of a server that speaks S3; default: that of AWS.")
    region: str | None = Field(None, description="Region of the bucket; default: `AWS_REGION`, or us-east-1.")
    allow_http: bool = Field(default=False, description="Speak to the endpoint without TLS, inside a trusted network.")
    path_style: bool = Field(default=True, description="Bucket in the path; false: in the host's name.")
    cache_bytes: int = Field(10 * 1024 * MEBIBYTE, ge=0, description="Size of the local copies of what was read.")
    timeout_seconds: float = Field(60.0, gt=0, le=3600, description="Longest time of one request.")
    retry_seconds: float = Field(10.0, ge=0, le=300, description="How long a failed request is repeated.")


class Limits(BaseModel):
    """Bound what one request may bring."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: int = Field(32 * MEBIBYTE, ge=1024, description="Largest request body but for uploads.")
    upload_bytes: int = Field(2048 * MEBIBYTE, ge=1024, description="Largest uploaded data set.")
    parameters: int = Field(50_000_000, ge=1, description="Most parameters of one model.")
    layers: int = Field(500, ge=1, description="Most layers of one model.")


class Settings(BaseSettings):
    """Hold all settings; without any, everything lives under `home` and needs no server."""

    model_config = SettingsConfigDict(
        env_prefix="LEANFUSE_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    home: Path = Field(Path("~/.leanfuse"), validate_default=True, description="Directory of everything embedded.")
    # URLs may carry a password, so they stay out of the repr.
    database_url: str = Field(
        default_factory=_database_under_home, repr=False, description="SQLAlchemy URL; default: SQLite under `home`."
    )
    broker_url: str | None = Field(
        None, repr=False, description="Redis URL of Celery; none: the worker host polls SQL."
    )
    store_url: str = Field(
        default_factory=_store_under_home, repr=False, description="Where artifacts live; default: files under `home`."
    )
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Names that requests may be sent to; default: this machine's own, or any if `host` is 0.0.0.0."
    )
    backend: Backend = Field("tensorflow", description="Keras backend of the trainers.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least important line to log.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else JSON."
    )
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    timing: Timing = Field(default_factory=Timing)
    limits: Limits = Field(default_factory=Limits)
    store: StoreSettings = Field(default_factory=StoreSettings)
    serving: ServingSettings = Field(default_factory=ServingSettings)

    @field_validator("home")
    @classmethod
    def _make_absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @property
    def scaled(self) -> bool:
        """Tell whether Celery wakes the workers."""
        return self.broker_url is not None

    @property
    def cache_path(self) -> Path:
        """Return the folder of local copies from a store elsewhere."""
        return self.home / "cache"

    @property
    def wake_path(self) -> Path:
        """Return the named pipe through which an embedded worker host is woken."""
        return self.home / "wake"
