"""The child process that reads untrusted files: `python -m app.datasets.jail REQUEST ANSWER`.

It gives up what it does not need (memory, processor time, files, processes, network, new privileges) before it
imports a single reader. It holds no credentials: its environment is empty, it sees one request and one folder.
"""

import ctypes
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.datasets.messages import Answer
    from app.domain.errors import LeanfuseError

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
SIGKILL = 9
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000
MOST_FILES = 256


def main(request_path: Path, answer_path: Path) -> None:
    """Read the request, confine this process, parse, and leave the answer as a file."""
    text = request_path.read_text("utf-8")
    unconfined = confine(json.loads(text)["limits"])
    answer = _answer(text)
    target = answer_path.with_suffix(".part")
    target.write_text(answer.model_copy(update={"unconfined": unconfined}).model_dump_json(), "utf-8")
    target.replace(answer_path)


def confine(limits: Mapping[str, Any]) -> tuple[str, ...]:
    """Give up what reading needs not; return what this platform could not take away."""
    failed = _limit_resources(limits)
    if not sys.platform.startswith("linux"):
        return (*failed, "network", "privileges")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        failed.append("privileges")
    # An empty network namespace; without root it needs a user namespace of its own, which some systems forbid.
    if libc.unshare(CLONE_NEWNET) and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        failed.append("network")
    return tuple(failed)


def _limit_resources(limits: Mapping[str, Any]) -> list[str]:
    try:
        import resource
    except ImportError:  # Windows
        return ["memory", "processor", "files", "processes"]
    wanted = {
        "memory": (resource.RLIMIT_AS, limits["memory_bytes"]),
        "processor": (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        "file size": (resource.RLIMIT_FSIZE, limits["expanded_bytes"]),
        "files": (resource.RLIMIT_NOFILE, MOST_FILES),
        "processes": (resource.RLIMIT_NPROC, 0),
        "core dumps": (resource.RLIMIT_CORE, 0),
    }
    failed = []
    for name, (kind, value) in wanted.items():
        hard = resource.getrlimit(kind)[1]
        capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (capped, capped))
        except (ValueError, OSError):
            failed.append(name)
    return failed


def _answer(text: str) -> "Answer":
    from app.datasets.messages import Request
    from app.datasets.parse import parse
    from app.domain.errors import LeanfuseError, UnreadableFileError

    request = Request.model_validate_json(text)
    os.chdir(request.output)
    try:
        return parse(request)
    except LeanfuseError as error:
        return _carry(error)
    except MemoryError:
        most = request.limits.memory_bytes // 2**20
        what, hint = f"Reading the file needs more than {most} MiB of memory.", "Send fewer or smaller rows."
    except Exception as error:  # noqa: BLE001 - whatever a parser does, the caller gets an answer
        what = f"Reading the file failed: {type(error).__name__}: {str(error)[:300]}."
        hint = "Check the file; if it is sound, report this message."
    return _carry(UnreadableFileError(what, hint=hint))


def _carry(error: "LeanfuseError") -> "Answer":
    from app.datasets.messages import Answer, carried

    return Answer(error=carried(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
