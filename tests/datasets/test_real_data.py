"""Real sets, builtin and uploaded, become what their pages say they are."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.datasets.fetch import FASHION_MNIST_FOLDER, fetch, find_fashion_mnist
from app.datasets.ingest import Upload, ingest
from app.datasets.options import Builtin, IngestOptions
from app.domain.datasets import DatasetManifest
from app.domain.errors import DatasetUnavailableError, InvalidRequestError
from app.store.local import LocalStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def add(store: LocalStore, workspace: Path):
    def adding(source: Upload | Builtin, **options: object) -> tuple[DatasetManifest, str]:
        asked = IngestOptions.model_validate({"name": "set", **options})
        done = ingest(source, asked, workspace=workspace, store=store)
        return done.manifest, "\n".join(done.notes)

    return adding


def test_digits_are_those_of_scikit_learn(add, store: LocalStore) -> None:
    manifest, _ = add("digits")
    schema = manifest.dataset_schema
    assert (schema.features, schema.shape, schema.dtype) == ("image", (8, 8, 1), "uint8")
    assert schema.classes == tuple("0123456789")
    assert schema.rows == {"train": 1078, "selection": 360, "report": 359}
    from sklearn.datasets import load_digits

    loaded = load_digits()
    rows = {
        (image.astype(np.uint8).tobytes(), int(label))
        for image, label in zip(loaded.images, loaded.target, strict=True)
    }
    x, y = (np.load(store.fetch(manifest.files[f"report_{part}"].sha256)) for part in "xy")
    assert all((image.tobytes(), int(label)) in rows for image, label in zip(x, y, strict=True))
    assert x.max() == 16


@pytest.mark.skipif(importlib.util.find_spec("mnist1d") is None, reason="mnist1d is not installed")
def test_mnist1d_has_its_official_split(add) -> None:
    manifest, _ = add("mnist1d")
    schema = manifest.dataset_schema
    assert (schema.features, schema.shape, schema.dtype) == ("signal", (40, 1), "float32")
    assert schema.rows == {"train": 3000, "selection": 1000, "report": 1000}


@pytest.mark.skipif(
    not find_fashion_mnist(FASHION_MNIST_FOLDER), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_fashion_mnist_has_its_official_split(add) -> None:
    manifest, _ = add("fashion_mnist")
    schema = manifest.dataset_schema
    assert (schema.features, schema.shape, schema.dtype) == ("image", (28, 28, 1), "uint8")
    assert schema.rows == {"train": 45_000, "selection": 15_000, "report": 10_000}
    assert schema.classes[-1] == "Ankle boot"


def test_a_builtin_takes_no_options_of_files(add) -> None:
    with pytest.raises(InvalidRequestError, match="`target` means nothing for a builtin"):
        add("digits", target="label")


def test_a_fetch_that_fails_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    blocked = tmp_path / "keras.py"  # stands for a machine without the worker extra
    blocked.write_text("raise ImportError('no keras here', name='keras')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DatasetUnavailableError) as caught:
        fetch("fashion_mnist", tmp_path / "out.npz")
    assert "keras is not installed" in caught.value.detail
    assert "apt-get install dataset-fashion-mnist" in caught.value.hint


def test_nothing_else_can_be_fetched() -> None:
    command = [sys.executable, "-m", "worker.nn.fetch", "os", "out.npz"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "there is nothing to fetch for 'os'\n")


def test_a_machine_without_fashion_mnist_is_known(tmp_path: Path) -> None:
    assert find_fashion_mnist(tmp_path) == []
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    assert find_fashion_mnist(tmp_path) == []


def test_optdigits_is_a_table_with_an_official_report_file(add, data: Path) -> None:
    source = Upload(data / "optdigits_train.csv", "train.csv", data / "optdigits_test.csv", "test.csv")
    manifest, _ = add(source, target="digit")
    schema = manifest.dataset_schema
    assert (schema.features, schema.shape, schema.rows["report"]) == ("table", (64,), 1797)
    assert schema.rows["train"] + schema.rows["selection"] == 3823
    assert schema.classes == tuple("0123456789")


def test_sms_spam_is_text(add, data: Path) -> None:
    manifest, notes = add(Upload(data / "sms_spam.csv", "sms_spam.csv"))
    schema = manifest.dataset_schema
    assert (schema.features, schema.shape, schema.classes) == ("text", (256,), ("ham", "spam"))
    assert sum(schema.rows.values()) == 5574
    assert "403 rows repeat another row" in notes


def test_spoken_digits_have_their_official_split_by_name(add, data: Path, store: LocalStore) -> None:
    source = Upload(data / "spoken_digits.zip", "spoken_digits.zip")
    manifest, notes = add(source, report_pattern=r"_0[0-4]\.wav$", group_pattern=r"/([a-z]+)_\d+\.wav$", seconds=0.5)
    schema = manifest.dataset_schema
    assert (schema.features, schema.shape, schema.dtype, schema.sample_rate) == ("signal", (4000, 1), "int16", 8000)
    assert schema.rows == {"train": 1800, "selection": 900, "report": 300}
    labels = np.load(store.fetch(manifest.files["report_y"].sha256))
    assert np.bincount(labels).tolist() == [30] * 10
    assert "6 groups stand in the official report part" in notes
