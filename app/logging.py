"""Structured logs: one formatter for our own lines and those of libraries, without passwords."""

import logging
import re
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor

LogFormat = Literal["auto", "console", "json"]
_USERINFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/\"'@]*(?:@[^\s/\"'@]*)*@")


def redact(text: str) -> str:
    """Hide the user and password of every URL in a text."""
    return _USERINFO.sub(r"\1***@", text)


def configure_logging(log_format: LogFormat = "auto", *, level: str = "info") -> None:
    """Send every log line to stderr, as JSON or (on a terminal) for people; call it once per process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # A line for every request costs more than a small prediction, and metrics count them all. Without a handler that
    # would hear it, uvicorn does not even make one.
    logging.getLogger("uvicorn.access").propagate = level.upper() == "DEBUG"
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every plugin
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose events are constant phrases with fields: `log.info("job_finished", job_id=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _formatter(log_format: LogFormat) -> logging.Formatter:
    people = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if people else structlog.processors.JSONRenderer()
    )
    exceptions: list[Processor] = [] if people else [structlog.processors.format_exc_info]
    return _RedactingFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *exceptions, renderer],
    )


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _drop_color_message,
    ]


def _drop_color_message(_logger: object, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn says everything twice
    return event


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Redact the finished line, so that tracebacks and library messages are covered too."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
