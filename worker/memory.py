"""Know when memory ran out: by an error, or because the kernel's memory killer struck."""

from pathlib import Path

# Names of Keras backends' own errors for a device or host that has no memory left.
_MEMORY_ERRORS = ("ResourceExhaustedError", "OutOfMemoryError", "XlaRuntimeError")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory left."""
    return isinstance(error, MemoryError) or type(error).__name__ in _MEMORY_ERRORS


def count_memory_kills(*, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Count the processes that were killed in this process's control group for want of memory; 0 if nothing tells."""
    try:
        group = own.read_text().splitlines()[-1].partition("::")[2]
        lines = (root / group.lstrip("/") / "memory.events").read_text().split("\n")
    except (OSError, IndexError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
