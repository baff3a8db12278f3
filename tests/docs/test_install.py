"""`make install` on a bare machine: what can be shown without installing everything again."""

import hashlib
import importlib.util
import io
import os
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
TAGS = [
    "manylinux_2_17_x86_64",
    "manylinux_2_17_aarch64",
    "musllinux_1_1_x86_64",
    "macosx_10_12_x86_64",
    "macosx_11_0_arm64",
]


@pytest.fixture(name="bootstrap")
def load_bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / ".ci" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("tag", TAGS)
def test_uv_lock_names_a_uv_for_every_supported_machine(bootstrap: ModuleType, tag: str) -> None:
    wheel = bootstrap.find_uv_wheel(tag)
    assert wheel.url.startswith("https://")
    assert len(wheel.sha256) == 64


def test_a_machine_without_a_uv_is_told_so(bootstrap: ModuleType) -> None:
    with pytest.raises(SystemExit, match="has no uv for this machine"):
        bootstrap.find_uv_wheel("plan9_mips")


def test_a_wheel_with_other_bytes_is_refused(bootstrap: ModuleType, tmp_path: Path) -> None:
    forged = tmp_path / "uv.whl"
    forged.write_bytes(b"forged")
    with pytest.raises(SystemExit, match="could not be fetched"):
        bootstrap.download(bootstrap.Wheel(forged.as_uri(), "0" * 64))


def test_the_program_of_a_good_wheel_is_made_executable(bootstrap: ModuleType, tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("uv-1.data/scripts/uv", "#!/bin/sh\necho uv\n")
    (tmp_path / "uv.whl").write_bytes(content.getvalue())
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    wheel = bootstrap.download(bootstrap.Wheel((tmp_path / "uv.whl").as_uri(), digest))
    bootstrap.unpack_uv(wheel, tmp_path / "uv")
    assert subprocess.run([tmp_path / "uv"], capture_output=True, text=True, check=True).stdout == "uv\n"


def test_a_broken_shim_is_passed_over(tmp_path: Path) -> None:
    """A version manager may put a `python3.13` on the path that only prints an error."""
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\necho no such version >&2\nexit 127\n", encoding="utf-8")
    shim.chmod(0o755)
    chosen = run_make(f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "--eval", "which: ; @echo $(PYTHON)", "which")
    assert chosen.stdout.strip() in {"python3.12", "python3.11", "python3", "python"}


def test_a_machine_without_python_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    ended = run_make(str(tmp_path), "--always-make", ".venv/.installed")
    assert ended.returncode != 0
    assert "Install Python 3.11, 3.12 or 3.13" in ended.stderr


def run_make(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        ["/usr/bin/make", "-C", str(ROOT), "--no-print-directory", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("target", ["install", "demo", "test", "test-jax", "up", "docs", "check", "fmt"])
def test_make_has_the_targets_that_the_pages_name(target: str) -> None:
    listed = run_make(os.environ["PATH"], "help").stdout
    assert f"make {target}\t" in listed
    assert f"`make {target}`" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_continuous_integration_runs_what_a_developer_runs() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in text
    assert "make check" in text
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
