"""Train several networks of one architecture as one, each as it would be trained alone."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.domain.network import Network
from app.domain.training_specs import TrainingSpec
from worker.context import Reporter, Stopped
from worker.nn import training
from worker.nn.architectures import build_model
from worker.nn.data import Array, Chunk, Feed, Plan, Rows, balanced
from worker.nn.epochs import keep_the_best, refuse_divergence
from worker.nn.objectives import Objective
from worker.nn.optimizers import make_optimizer
from worker.nn.stacked import StackedModel, stackable
from worker.nn.stepping import Averages
from worker.nn.training import SECONDS_PER_CHUNK, Pace, make_deterministic
from worker.nn.training_state import Arrays, TrainingState, read_state, write_state

Weights: TypeAlias = dict[str, NDArray[Any]]
History: TypeAlias = list[dict[str, float]]


@dataclass(frozen=True)
class Pupil:
    """Hold what is a member's own: its seed, the rows that it learns from, and where its weights start."""

    seed: int
    rows: Rows
    start: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """Hold what all members share."""

    network: Network
    objective: Objective
    training: TrainingSpec


def why_alone(task: Task, pupils: Sequence[Pupil]) -> str | None:
    """Say why members cannot be trained as one; None: they can."""
    if keras.backend.backend() != "tensorflow":
        return f"stacked training needs TensorFlow, not {keras.backend.backend()}"
    if not stackable(task.network):
        return "a layer of the network cannot be stacked"
    if task.training.precision != "float32" or task.training.global_clipnorm:
        return "mixed precision, and gradients clipped by their norm, are for one network at a time"
    if len({pupil.rows.count for pupil in pupils}) > 1:
        return "they learn from unequal numbers of rows"
    return None


def fit_together(
    task: Task, pupils: Sequence[Pupil], reporter: Reporter, resume: Path | None = None
) -> list[tuple[Weights, History]]:
    """Return each member's best weights and history, as `fit` would make them but for the rounding of sums.

    Order, augmentation, dropout, statistics, optimizer, best epoch and early stop are each member's own; one that has
    stopped no longer changes what it returns. Resumes from a checkpoint to the same bits. Raise as `fit` does.
    """
    make_deterministic(0)
    course = _Course(task, pupils, reporter)
    if resume is not None:
        course.resume(resume)
    with closing(course.chunks()) as chunks:
        for chunk in chunks:
            course.take(chunk)
    return course.results()


def seconds_per_update(task: Task, pupils: Sequence[Pupil], *, updates: int) -> float:
    """Measure an update of all members together, or of a single one as `fit` does it; nothing is kept."""
    if len(pupils) == 1:
        (pupil,) = pupils
        model = build_model(task.network, pupil.start, seed=pupil.seed)
        return training.seconds_per_update(
            model, pupil.rows, objective=task.objective, training=task.training, seed=pupil.seed, updates=updates
        )
    make_deterministic(0)
    return training.best_seconds(_Course(task, pupils, None).learn, updates)


class _Course:
    """Follow a training of several members."""

    def __init__(self, task: Task, pupils: Sequence[Pupil], reporter: Reporter | None) -> None:
        self._task, self._pupils, self._reporter = task, pupils, reporter
        wanted, members = task.training, len(pupils)
        self._rows, self._selection_weights = _weighed(task, pupils)
        count = pupils[0].rows.count
        self._plans = [Plan(count, wanted.batch_size, wanted.epochs, pupil.seed) for pupil in pupils]
        self._plan = self._plans[0]
        self._feeds = [
            Feed(rows, plan, wanted.augmentation) for rows, plan in zip(self._rows, self._plans, strict=True)
        ]
        self._model = StackedModel(task.network, [pupil.start for pupil in pupils], [pupil.seed for pupil in pupils])
        self._optimizer = make_optimizer(wanted, steps=self._plan.steps, steps_per_epoch=self._plan.steps_per_epoch)
        self._optimizer.build(self._model.trainable_variables)
        self._averages = Averages(self._model, wanted.averaging) if wanted.averaging else None
        from worker.nn.together_steps import TogetherSteps

        self._steps = TogetherSteps(self._model, self._optimizer, task.objective, self._averages)
        self._states = [TrainingState() for _ in range(members)]
        self._step, self._sums = 0, np.zeros((members, 2))
        self._pace = Pace(SECONDS_PER_CHUNK)

    @property
    def finished(self) -> bool:
        """Say whether there is nothing left to do."""
        return self._step >= self._plan.steps or all(state.stopped_early for state in self._states)

    def chunks(self) -> Iterator[list[Chunk]]:
        """Yield what is left to learn from, each chunk read while the one before is learned from."""
        step = self._step
        with ThreadPoolExecutor(1) as reader:
            coming = None if self.finished else reader.submit(self._read, step, 1)
            while coming is not None and not self.finished:
                chunks = coming.result()
                step += chunks[0].steps
                coming = reader.submit(self._read, step, self._pace.steps) if step < self._plan.steps else None
                yield chunks

    def _read(self, step: int, most_steps: int) -> list[Chunk]:
        return [feed.chunk(step, most_steps) for feed in self._feeds]

    def learn(self, step: int, most_steps: int) -> int:
        """Learn from the batches from a step on; return how many they were."""
        chunks = self._read(step, most_steps)
        self._run(chunks)
        return chunks[0].steps

    def _run(self, chunks: Sequence[Chunk]) -> None:
        x, targets = (np.stack([getattr(chunk, name) for chunk in chunks], axis=1) for name in ("x", "targets"))
        weights = np.stack([_ones(chunk) if chunk.weights is None else chunk.weights for chunk in chunks], axis=1)
        self._sums = self._steps.run(x, targets, weights, chunks[0].ends, chunks[0].step, self._sums)

    def take(self, chunks: list[Chunk]) -> None:
        """Learn from a chunk, end the epoch if it was its last, and do what is asked."""
        began = perf_counter()
        self._run(chunks)
        self._pace.note(chunks[0].steps, perf_counter() - began)
        self._step += chunks[0].steps
        if self._step % self._plan.steps_per_epoch == 0:
            self._end_epoch()
        if self._reporter is not None:
            self._reporter.progress(self._step, self._plan.steps)
            if not self.finished:
                self._answer_requests(self._reporter)

    def results(self) -> list[tuple[Weights, History]]:
        """Return each member's best weights, or its last, averaged ones."""
        if self._averages is not None:
            self._averages.hand_over()
        last = self._values()
        names = list(self._model.named)
        return [
            (dict(zip(names, state.best_weights or _of_member(place, last), strict=True)), state.history)
            for place, state in enumerate(self._states)
        ]

    def _values(self) -> Arrays:
        return [np.asarray(ops.convert_to_numpy(variable)) for variable in self._model.named.values()]

    def _end_epoch(self) -> None:
        epoch = self._step // self._plan.steps_per_epoch - 1
        learned, self._sums = self._sums / self._plan.rows, np.zeros_like(self._sums)
        with self._averages.in_place() if self._averages else nullcontext():
            selection = self._select()
            values = self._values()
        for place, state in enumerate(self._states):
            if not state.stopped_early:
                self._end_epoch_of(place, epoch, self._figures(learned[place], selection and selection[place]), values)
        if self._reporter is not None:
            self._reporter.metric(epoch, _means([state.history[-1] for state in self._states]))

    def _end_epoch_of(self, place: int, epoch: int, figures: dict[str, float], values: Arrays) -> None:
        state = self._states[place]
        state.history.append({"epoch": epoch, **figures})
        refuse_divergence(epoch, figures)
        if "selection_loss" in figures:
            keep_the_best(state, figures, self._task.training, lambda: _of_member(place, values))

    def _select(self) -> list[Array] | None:
        rows = self._pupils[0].rows
        if not len(rows.selection_x):
            return None
        return list(self._steps.evaluate(rows.selection_x, rows.selection_targets, self._selection_weights))

    def _figures(self, learned: Array, selection: Array | None) -> dict[str, float]:
        names = ("loss", "accuracy") if self._task.objective.correct else ("loss",)
        figures = {name: float(value) for name, value in zip(names, learned, strict=False)}
        if selection is not None:
            figures |= {f"selection_{name}": float(value) for name, value in zip(names, selection, strict=False)}
        return figures

    def _answer_requests(self, reporter: Reporter) -> None:
        reason = reporter.stop_requested()
        if reason == "drain" or (reason is None and reporter.checkpoint_due()):
            reporter.checkpoint(self._write, self._step)
        if reason is not None:
            raise Stopped(reason, step=self._step)

    @property
    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {
            "model": self._model.variables,
            "optimizer": self._optimizer.variables,
            "average": self._averages.values if self._averages else [],
        }

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "rows": self._plan.rows,
            "seeds": [pupil.seed for pupil in self._pupils],
            "objective": self._task.objective.name,
            "training": self._task.training.model_dump(mode="json"),
        }

    def _write(self, directory: Path) -> None:
        whole = TrainingState(step=self._step, sums=self._sums.ravel().tolist())
        write_state(directory, whole, self._variables, self._identity)
        for place, state in enumerate(self._states):
            own = directory / f"member-{place}"
            own.mkdir()
            write_state(own, state, {}, self._identity)

    def resume(self, directory: Path) -> None:
        """Go on from a checkpoint."""
        whole = read_state(directory, self._variables, self._identity)
        self._step, self._sums = whole.step, np.array(whole.sums).reshape(self._sums.shape)
        self._states = [
            read_state(directory / f"member-{place}", {}, self._identity) for place in range(len(self._pupils))
        ]


def _weighed(task: Task, pupils: Sequence[Pupil]) -> tuple[list[Rows], Array]:
    """Return each member's rows, with balanced weights where wanted, and weights (selection rows, members)."""
    rows, weights = [pupil.rows for pupil in pupils], [pupil.rows.selection_weight for pupil in pupils]
    if task.training.class_weights == "balanced":
        rows, weights = map(list, zip(*(balanced(own, task.network.classes) for own in rows), strict=True))
    ones = np.ones(len(rows[0].selection_x), np.float32)
    return rows, np.stack([ones if own is None else own.astype(np.float32) for own in weights], axis=1)


def _ones(chunk: Chunk) -> Array:
    return np.ones(len(chunk.x), np.float32)


def _of_member(place: int, values: Sequence[NDArray[Any]]) -> Arrays:
    return [value[place].copy() for value in values]


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = [name for name in figures[0] if name != "epoch"]
    return {name: float(np.mean([own[name] for own in figures])) for name in names}
