"""The README's tour and the page that goes on from it, run as they stand against a real service."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOUR = README.split("## Five-minute tour")[1].split("\n## ")[0]
PAGE = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
BLOCKS = [block for text in (TOUR, PAGE) for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)]

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None, reason="the tour is told with curl, which is missing here"
)


@pytest.mark.timeout(280)
def test_the_tour_can_be_pasted_block_by_block(service: str, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    # One shell for all blocks, as a reader's terminal: a block uses what the ones before it have set.
    script = "\n".join(f"{block}\necho; echo '=== end of block'" for block in BLOCKS)
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8000", service)],
        cwd=tmp_path,
        env={**os.environ, "LEANFUSE_URL": service},
        capture_output=True,
        text=True,
        check=False,
        timeout=270,
    )
    assert ended.returncode == 0, f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    said = [text.strip() for text in ended.stdout.split("=== end of block\n")]
    added, _, followed, predicted, reported, distilled, answered, listed, chosen, _ = said
    assert json.loads(added)["schema"]["rows"].keys() == {"train", "selection", "report"}
    assert "event: done" in followed
    assert '"succeeded"' in followed
    predictions = json.loads(predicted)["predictions"]
    assert [len(prediction["members"]) for prediction in predictions] == [3, 3, 3]
    assert "entropy" in predictions[0]["uncertainty"]
    assert json.loads(reported)["baseline"]["verdict"] in {"better", "worse", "no difference shown"}
    assert '"succeeded"' in distilled
    assert len(json.loads(answered)["predictions"]) == 2
    assert "digits-student" in listed
    assert json.loads(chosen.splitlines()[-1])["best"]["name"] != "digits-trio", "three members are too large"


def test_the_page_goes_on_from_the_readme() -> None:
    assert '--8<-- "README.md:tour"' in PAGE
    assert len(re.findall(r"```sh\n", TOUR)) <= 5, "the first fused prediction takes few steps"


def test_the_tour_starts_with_the_two_commands() -> None:
    first = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)[0]
    assert first.splitlines() == ["make demo", "make test"]
