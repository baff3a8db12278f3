"""Make .venv from uv.lock on a machine that has only Python: no pip, no uv, no root.

Debian's python3 may come without pip and ensurepip, so uv itself is taken straight from the URL in uv.lock, checked
against the SHA-256 there, and put into .venv; uv then installs everything else from the same lock. Another environment
with more extras is made by naming both: `bootstrap.py .venv-jax jax`.
"""

import compileall
import hashlib
import io
import os
import platform
import ssl
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TRIES = 3


class Wheel(NamedTuple):
    """Name a file of the package index and the bytes it must have."""

    url: str
    sha256: str


def main(name: str = ".venv", *extras: str) -> None:
    """Make the environment, fetch uv, and let it install the rest: what a worker needs, and the extras.

    A file of requirements in the place of extras is installed instead, with the hashes in it.
    """
    environment = ROOT / name
    make_environment(environment)
    wheel = find_uv_wheel(platform_tag())
    uv = environment / "bin" / f"uv-{wheel.sha256[:12]}"
    if not uv.exists():
        unpack_uv(download(wheel), uv)
    if extras and extras[0].endswith(".txt"):
        sys.exit(install_requirements(uv, environment, extras[0]))
    wanted = [part for extra in ("worker", "openvino", *extras) for part in ("--extra", extra)]
    python = str(environment / "bin" / "python")
    command = [str(uv), "sync", "--frozen", "--inexact", "--compile-bytecode", *wanted, "--python", python]
    code = subprocess.run(command, cwd=ROOT, env=uv_environment(environment), check=False).returncode
    # Compiled once here, every process starts in half the time, also where Python is told to write no bytecode.
    for package in ("app", "worker", "migrations"):
        compileall.compile_dir(ROOT / package, quiet=2)
    sys.exit(code)


def install_requirements(uv: Path, environment: Path, requirements: str) -> int:
    """Install exactly what a file names; return uv's exit code."""
    python = str(environment / "bin" / "python")
    command = [str(uv), "pip", "sync", "--quiet", "--python", python, requirements]
    return subprocess.run(command, cwd=ROOT, env=uv_environment(environment), check=False).returncode


def make_environment(directory: Path) -> None:
    """Make an environment anew unless its interpreter runs and is one that TensorFlow has wheels for."""
    probe = [
        str(directory / "bin" / "python"),
        "-c",
        "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))",
    ]
    try:
        usable = subprocess.run(probe, check=False, capture_output=True).returncode == 0
    except OSError:
        usable = False
    if not usable:
        venv.create(directory, with_pip=False, clear=True, symlinks=True)


def platform_tag() -> str:
    """Return the part of a uv wheel's file name that says it runs here."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin":
        return "macosx_11_0_arm64" if machine == "aarch64" else "macosx_10_12_x86_64"
    libc = "manylinux_2_17" if platform.libc_ver()[0] == "glibc" else "musllinux_1_1"
    return f"{libc}_{machine}"


def find_uv_wheel(tag: str) -> Wheel:
    """Find the locked uv wheel for a platform."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    wheels = next(package["wheels"] for package in packages if package["name"] == "uv")
    for wheel in wheels:
        if tag in wheel["url"]:
            return Wheel(wheel["url"], wheel["hash"].removeprefix("sha256:"))
    sys.exit(f"make: uv.lock has no uv for this machine ({tag}). Install uv yourself, then: uv sync --extra worker")


def download(wheel: Wheel) -> bytes:
    """Fetch the wheel; only bytes with the locked SHA-256 are returned."""
    for attempt in range(1, TRIES + 1):
        try:
            content = fetch(wheel.url)
        except OSError as error:
            sys.stderr.write(f"make: try {attempt} of {TRIES} to fetch {wheel.url} failed: {error}\n")
            continue
        if hashlib.sha256(content).hexdigest() == wheel.sha256:
            return content
        sys.stderr.write(f"make: {wheel.url} has not the SHA-256 that uv.lock names.\n")
    sys.exit("make: uv could not be fetched. Is the package index reachable? A proxy goes into HTTPS_PROXY.")


def fetch(url: str) -> bytes:
    """Fetch a URL of uv.lock."""
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - uv.lock names https alone
            return bytes(response.read())
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLCertVerificationError):
            raise
    # A bare machine may hold no certificate authorities; the SHA-256 in uv.lock is what vouches for the bytes.
    unverified = ssl._create_unverified_context()  # noqa: S323 - see above
    with urllib.request.urlopen(url, timeout=60, context=unverified) as response:  # noqa: S310 - see above
        return bytes(response.read())


def unpack_uv(wheel: bytes, target: Path) -> None:
    """Write the uv program of a wheel to `target`, complete or not at all."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        partial = target.with_suffix(".partial")
        partial.write_bytes(archive.read(name))
    partial.chmod(0o755)
    partial.replace(target)


def uv_environment(directory: Path) -> dict[str, str]:
    """Let uv trust the machine's own certificate store where there is one: a company's proxy is known only there."""
    own = {"VIRTUAL_ENV": str(directory), "UV_PROJECT_ENVIRONMENT": str(directory), "UV_PYTHON_DOWNLOADS": "never"}
    environment = {**os.environ, **own}
    if "SSL_CERT_FILE" not in environment and ssl.create_default_context().get_ca_certs():
        environment.setdefault("UV_SYSTEM_CERTS", "true")
    return environment


if __name__ == "__main__":
    main(*sys.argv[1:])
