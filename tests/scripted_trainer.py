"""A real trainer process whose method is a small script: everything of worker.trainer but Keras.

The job's tags are the script: `steps`, `step_seconds`; `crash_at` (a step, SIGKILL by its own hand), `hang_at`,
`fail_at` with `fail` ("retryable" or "permanent"); `until_token`, after which nothing of this happens any more.
What it "trains" depends on every step, so that a resumed run gives the same bytes as an uninterrupted one only if
nothing was lost or done twice.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from app.domain.datasets import FileRef
from app.domain.errors import FieldError, JobError
from app.domain.job_errors import TrainingDivergedError
from app.domain.models import InputSignature, Metrics, VersionManifest
from worker import trainer
from worker.assignment import Assignment
from worker.context import Context, Stopped

if TYPE_CHECKING:
    from worker.package import Product


class _Product(NamedTuple):
    name_hint: str
    kind: str
    directory: Path
    manifest: VersionManifest


class _PassingError(JobError):
    slug = "passing-trouble"
    retryable = True


def run(assignment: Assignment, context: Context) -> "Sequence[Product]":
    script = assignment.spec.tags
    steps, pause = int(script.get("steps", "10")), float(script.get("step_seconds", "0.01"))
    state = np.random.default_rng(assignment.seed).normal(size=64)
    first = 0
    if context.resume is not None:
        state, first = np.load(context.resume / "state.npy"), int((context.resume / "deep/step").read_text())
    context.reporter.log(f"starting at step {first}")
    for role, versions in assignment.references.items():
        named = ", ".join(f"{version.name}/{version.version} seed {version.manifest.seed}" for version in versions)
        context.reporter.log(f"{role}: {named}")
    if assignment.unlabelled is not None:
        context.reporter.log(f"unlabelled: {assignment.unlabelled.name} {max(assignment.unlabelled.files)}")
    for step in range(first + 1, steps + 1):
        time.sleep(pause)
        state = np.sin(1.1 * state + step)
        _misbehave(script, step, assignment.token)
        context.reporter.progress(step, steps)
        _look_up(context, state, step)
    context.reporter.metric(0, {"loss": float(state.mean())})
    return [_pack(assignment, context, state)]  # type: ignore[list-item]


def _look_up(context: Context, state: np.ndarray, step: int) -> None:
    def write(path: Path) -> None:
        np.save(path / "state.npy", state)
        (path / "deep").mkdir()
        (path / "deep/step").write_text(str(step))

    reason = context.reporter.stop_requested()
    if reason == "drain":
        context.reporter.checkpoint(write, step)
    if reason is not None:
        raise Stopped(reason, step=step)
    if context.reporter.checkpoint_due():
        context.reporter.checkpoint(write, step)


def _misbehave(script: dict[str, str], step: int, token: int) -> None:
    if token > int(script.get("until_token", "99")):
        return
    if script.get("crash_at") == str(step):
        print("the last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if script.get("hang_at") == str(step):
        time.sleep(3600)
    if script.get("fail_at") == str(step):
        raise (
            _PassingError("come back later")
            if script["fail"] == "retryable"
            else TrainingDivergedError(
                "the loss is nan", errors=[FieldError("/training", "too fast", "training-diverged")]
            )
        )


def _pack(assignment: Assignment, context: Context, state: np.ndarray) -> _Product:
    directory = context.output / "product"
    directory.mkdir()
    np.save(directory / "weights.npy", state)
    reference = trainer.fingerprint(directory / "weights.npy")
    if assignment.spec.tags.get("lie"):
        reference = FileRef(sha256="0" * 64, size_bytes=1)
    manifest = VersionManifest(
        kind="single",
        method="train",
        task="classification",
        classes=assignment.dataset.dataset_schema.classes,
        input=InputSignature(shape=assignment.dataset.dataset_schema.shape, dtype="float32"),
        files={"weights.npy": reference},
        dataset=assignment.dataset.name,
        dataset_digest=assignment.dataset.digest,
        recipe_digest=assignment.recipe_digest,
        seed=assignment.seed,
        protocol=1,
        metrics=Metrics(
            parameters=64, macs=64, served_bytes=0, weights_bytes=512, latency_ms_batch_1=1.0, latency_ms_batch_32=1.0
        ),
    )
    return _Product(assignment.spec.name, "single", directory, manifest)


if __name__ == "__main__":
    trainer.leave(trainer.main(load=lambda: run))
