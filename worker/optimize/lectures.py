"""What a teacher says about a whole transfer set: asked once, kept as files, used by the student in every epoch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import canonical_json
from app.domain.optimize_specs import Distill
from worker.assignment import Assignment, VersionInput
from worker.learning import hard_targets
from worker.optimize.hints import Guide
from worker.optimize.out_of_fold import FoldTeachers, fold_teachers
from worker.optimize.teaching import entropy_of, mixed, pack, voice_of, weights_of
from worker.optimize.transfer import TransferSet
from worker.rows import Array, Data
from worker.stages import Codec, Stage, Stages, link_or_copy

LECTURE = "teacher"
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Lecture:
    """Hold packed targets for the transfer set and the selection rows, as memory-mapped files of `directory`.

    `entropy` is the teacher's mean entropy on the transfer set, in nats; None for a regression.
    """

    directory: Path
    train: Array
    selection: Array
    entropy: float | None


@dataclass(frozen=True)
class Lecturer:
    """Ask a teacher, by its served file, for every row of a transfer set and of the selection set.

    What a guide shows stands behind the packed targets of the transfer set.
    """

    method: Distill
    teacher: VersionInput
    transfer: TransferSet
    guide: Guide | None
    assignment: Assignment
    data: Data

    @property
    def told(self) -> str:
        """Say what of the teacher teaches."""
        told = voice_of(self.teacher, self.data, mean=self.method.teacher_mean).told
        if self.method.transfer.labels == "teacher":
            return told
        return f"{told}, by teachers trained again without each row's fold"

    def plan(self) -> list[Stage]:
        """Plan the trainings of the teacher's folds, if it needs any, and the asking, which takes no optimizer step."""
        folds = self._folds()
        return [*(folds.plan() if folds else []), Stage(LECTURE)]

    def answer_out_of_fold(self, stages: Stages) -> NDArray[np.float32] | None:
        """Return what teachers say of labelled rows that they have not seen; None where the teacher itself is asked."""
        folds = self._folds()
        if folds is None:
            return None
        answers = folds.answer(self.transfer, stages)
        weights = weights_of(self.teacher, len(answers))
        return mixed(answers, weights, mean=self.method.teacher_mean, classification=self.data.classification)

    def write(self, out_of_fold: NDArray[np.float32] | None) -> Lecture:
        """Ask for all rows and write the packed targets to scratch."""
        directory = self.assignment.scratch / "lecture"
        directory.mkdir(parents=True, exist_ok=True)
        selection = hard_targets(self.data, np.asarray(self.data.y["selection"]))
        none = np.zeros((0, self.data.dataset_schema.outputs), np.float32)
        known = none if out_of_fold is None else out_of_fold
        rows, selected = self.transfer.x, self.data.x["selection"]
        _write(directory / "train.npy", self._packed(rows, self._smoothed(), known, self.guide), rows=len(rows))
        _write(directory / "selection.npy", self._packed(selected, selection, none, None), rows=len(selected))
        classes = self.data.dataset_schema.outputs
        entropy = _entropy(directory / "train.npy", classes) if self.data.classification else None
        return _lecture(directory, entropy)

    def _folds(self) -> FoldTeachers | None:
        if self.method.transfer.labels == "teacher":
            return None
        return fold_teachers(self.method.transfer, self.teacher, self.assignment, self.data, seed=self.assignment.seed)

    def _smoothed(self) -> NDArray[np.float32]:
        """Return the labels, smoothed as those of the control are."""
        smoothing = self.assignment.spec.training.label_smoothing
        targets = self.transfer.targets
        return (1 - smoothing) * targets + np.float32(smoothing / targets.shape[1]) if smoothing else targets

    def _packed(
        self, x: Array, hard: NDArray[np.float32], known: NDArray[np.float32], guide: Guide | None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield packed targets, part by part; what is `known` of the first rows is not asked."""
        voice = voice_of(self.teacher, self.data, mean=self.method.teacher_mean)
        for first in range(0, max(1, len(x)), CHUNK_ROWS):
            part = slice(first, first + CHUNK_ROWS)
            rows, soft = x[part], known[part]
            if len(soft) < len(rows):
                soft = np.concatenate([soft, voice.answer(rows[len(soft) :])])
            packed = pack(hard[part], soft, self.data, alpha=self.method.soft_weight)
            yield packed if guide is None else np.concatenate([packed, guide.show(rows)], axis=1)


def _write(path: Path, parts: Iterator[NDArray[np.float32]], *, rows: int) -> None:
    """Write parts (rows, numbers) one behind the other, as .npy; only one is in memory at a time."""
    with path.open("wb") as file:
        for place, part in enumerate(parts):
            if place == 0:
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, part.shape[1])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(part, "<f4").data)


def _lecture(directory: Path, entropy: float | None) -> Lecture:
    train, selection = (
        np.load(directory / name, mmap_mode="r", allow_pickle=False) for name in ("train.npy", "selection.npy")
    )
    return Lecture(directory, train, selection, entropy)


def _entropy(path: Path, classes: int) -> float:
    packed = np.load(path, mmap_mode="r", allow_pickle=False)
    firsts = range(0, len(packed), CHUNK_ROWS)
    return entropy_of([packed[first : first + CHUNK_ROWS, classes : 2 * classes] for first in firsts])


def _keep(lecture: Lecture, directory: Path) -> None:
    for name in ("train.npy", "selection.npy"):
        link_or_copy(str(lecture.directory / name), str(directory / name))
    (directory / "entropy.json").write_bytes(canonical_json(lecture.entropy))


def _read(directory: Path) -> Lecture:
    return _lecture(directory, json.loads((directory / "entropy.json").read_bytes()))


lecture_codec: Codec[Lecture] = Codec(_keep, _read)
