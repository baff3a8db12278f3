"""Add a data set: have a child process read it, check what the child wrote, keep it in the store."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from app.datasets.fetch import prepare
from app.datasets.messages import Answer, ErrorAnswer, Request
from app.datasets.options import Builtin, IngestOptions, Limits, check_options
from app.datasets.sniff import sniff
from app.datasets.write import file_names
from app.domain.datasets import DatasetManifest, DatasetSchema, canonical_json
from app.domain.error_tree import all_errors
from app.domain.errors import FieldError, InvalidRequestError, LeanfuseError, UnreadableFileError
from app.store.base import Store

DEFAULT_LIMITS = Limits()
HOME = Path(__file__).parents[2]
# The numeric libraries read these when they load; threads are forbidden in the jail.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Upload:
    """Point at an uploaded file, and perhaps a second one that is the official report part. Both are left in place."""

    path: Path
    filename: str = ""
    report_path: Path | None = None
    report_filename: str = ""


class Ingested(NamedTuple):
    """Hold the manifest of a data set whose files are in the store.

    `notes` say what the user should know of the reading; `unconfined` names what the platform could not take away
    from the process that read.
    """

    manifest: DatasetManifest
    notes: tuple[str, ...] = ()
    unconfined: tuple[str, ...] = ()


def ingest(
    source: Upload | Builtin, options: IngestOptions, *, workspace: Path, store: Store, limits: Limits = DEFAULT_LIMITS
) -> Ingested:
    """Read a data set in a jailed child process and keep its files.

    The same bytes and options give the same manifest. Raise an error of the tree, in which case nothing is kept:
    neither in the store nor in the workspace, a folder for what is under way.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="ingest-", dir=workspace))
    try:
        request = _make_request(source, options, folder, limits)
        answer = _run_jail(request, folder)
        if answer.error is not None:
            raise revive(answer.error)
        return _keep(answer, request.output, store)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_request(source: Upload | Builtin, options: IngestOptions, folder: Path, limits: Limits) -> Request:
    output = folder / "sets"
    output.mkdir(mode=0o700)
    if not isinstance(source, Upload):
        check_options(options, "builtin")
        return Request(
            files=tuple(prepare(source, folder)), builtin=source, options=options, limits=limits, output=output
        )
    formats = [sniff(source.path, source.filename, limits)]
    files = [source.path]
    if source.report_path is not None:
        _check_report_file(options)
        formats.append(sniff(source.report_path, source.report_filename, limits, pointer="/report_file"))
        files.append(source.report_path)
    absolute = tuple(path.absolute() for path in files)
    return Request(files=absolute, formats=tuple(formats), options=options, limits=limits, output=output)


def _check_report_file(options: IngestOptions) -> None:
    if options.task == "unlabelled":
        raise InvalidRequestError(
            "Rows without labels have no report part: nothing can be measured on them.",
            hint="Send all of them as `file`.",
            errors=[FieldError("/report_file", "not for unlabelled rows", InvalidRequestError.slug)],
        )


def _run_jail(request: Request, folder: Path) -> Answer:
    # Unset options stay away, so that the child can tell what was asked for; limits are all there.
    asked = request.model_dump(mode="json", exclude_unset=True) | {"limits": request.limits.model_dump()}
    text = run_jailed("app.datasets.jail", folder, canonical_json(asked), request.limits)
    try:
        return Answer.model_validate_json(text)
    except ValidationError:
        raise _failed("the reader gave no proper answer") from None


def run_jailed(module: str, folder: Path, asked: bytes, limits: Limits) -> bytes:
    """Have a module read what was uploaded in a process of its own; return the answer that it left.

    The module is run as `python -m MODULE REQUEST ANSWER`, both files in `folder`. Raise UnreadableFileError when it
    dies, takes too long or leaves no answer.
    """
    request_path, answer_path = folder / "request.json", folder / "answer.json"
    request_path.write_bytes(asked)
    command = [sys.executable, "-B", "-X", "utf8", "-m", module, str(request_path), str(answer_path)]
    process = subprocess.Popen(
        command,
        cwd=HOME,
        env=ENVIRONMENT,
        umask=0o077,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = process.wait(limits.wall_seconds)
    except subprocess.TimeoutExpired:
        raise _failed(f"it took longer than {limits.wall_seconds:g} s") from None
    finally:
        _end(process)
    if code:
        raise _failed(_why(code, limits))
    return _read_answer(answer_path, limits)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _why(code: int, limits: Limits) -> str:
    if code in {-signal.SIGXCPU, -signal.SIGKILL}:
        memory = limits.memory_bytes // 2**20
        return f"it needs more than {limits.cpu_seconds} s of processor time or {memory} MiB of memory"
    return f"the reader died of signal {-code}" if code < 0 else f"the reader ended with code {code}"


def _failed(why: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"The file could not be read: {why}.",
        hint="Send fewer or smaller rows; check that the file opens elsewhere.",
        errors=[FieldError("/file", why, "unreadable-file")],
    )


def _read_answer(path: Path, limits: Limits) -> bytes:
    """Read what the child left; it is as little to be trusted as the file that the child read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as handle:
            text = handle.read(limits.answer_bytes + 1)
        if len(text) <= limits.answer_bytes:
            return text
    except OSError:
        pass
    raise _failed("the reader gave no proper answer")


def revive(answer: ErrorAnswer) -> LeanfuseError:
    """Return the error that a child answered with."""
    kinds = {kind.slug: kind for kind in all_errors()}
    kind = kinds.get(answer.slug, UnreadableFileError)
    return kind(answer.detail, hint=answer.hint, errors=[FieldError(*error) for error in answer.errors])


def _keep(answer: Answer, folder: Path, store: Store) -> Ingested:
    schema = answer.dataset_schema
    if schema is None:
        raise _failed("the reader gave no proper answer")
    paths = {name: folder / f"{name}.npy" for name in file_names(schema)}
    for name, path in paths.items():
        if not _is_as_described(path, name, schema):
            raise _failed("the reader's answer does not match what it wrote")
    files = {name: store.put(path) for name, path in paths.items()}
    manifest = DatasetManifest(dataset_schema=schema, files=files, statistics=answer.statistics)
    return Ingested(manifest, answer.notes, answer.unconfined)


def _is_as_described(path: Path, name: str, schema: DatasetSchema) -> bool:
    set_name, _, part = name.rpartition("_")
    rows = {str(key): count for key, count in schema.rows.items()}[set_name]
    columns = 1 if schema.task == "regression" else 0
    target = ("int64", (rows,)) if schema.task == "classification" else ("float32", (rows, columns))
    expected = {
        "x": (schema.dtype, (rows, *schema.shape)),
        "y": target,
        "hash": ("uint8", (rows, 16)),
        "weight": ("float32", (rows,)),
        "group": ("int64", (rows,)),
        "order": ("int64", (rows,)),
    }[part]
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    plain = path.is_file() and not path.is_symlink() and array.flags.c_contiguous
    return plain and (array.dtype.name, array.shape) == expected
