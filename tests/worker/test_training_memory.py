"""A data set larger than memory can be trained on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

COLUMNS = 4096
MIB = 2**20
# Train for an epoch on a mapped file and print by how much the resident memory grew, at its highest.
SCRIPT = """
import os, resource, sys, threading
import numpy as np
from app.domain import layers as ly
from app.domain.network import InputSpec, Network
from app.domain.training_specs import SGD, TrainingSpec
from tests.worker.fakes import FakeReporter
from worker.nn.architectures import build_model
from worker.nn.objectives import plain_objective
from worker.nn.training import Rows, fit

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

x = np.load(sys.argv[1], mmap_mode="r")
targets = np.eye(2, dtype=np.float32)[np.arange(len(x)) % 2]
layers = (ly.Dense(name="answer", units=2),)
network = Network(input=InputSpec(shape=(x.shape[1],)), layers=layers, classes=2)
training = TrainingSpec(epochs=1, batch_size=256, optimizer=SGD(learning_rate=1e-6))
options = {"objective": plain_objective("classification"), "training": training, "seed": 0}
model = build_model(network, seed=0)
small = Rows(x[:512], targets[:512], x[:64], targets[:64])
fit(model, small, **options, reporter=FakeReporter(None))
before, highest, done = resident(), [0], threading.Event()

def watch():
    while not done.wait(0.01):
        highest[0] = max(highest[0], resident())

watcher = threading.Thread(target=watch)
watcher.start()
history = fit(model, Rows(x, targets, x[:64], targets[:64]), **options, reporter=FakeReporter(None))
done.set()
watcher.join()
assert len(history) == 1
print(highest[0] - before)
"""


def sparse_file(path: Path, megabytes: int) -> Path:
    """Make a .npy of zeros that takes no room on the disk."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(megabytes * MIB // COLUMNS, COLUMNS))
    return path


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the resident memory is read from /proc")
def test_training_on_a_mapped_file_takes_a_fraction_of_its_size(tmp_path):
    megabytes = 600
    path = sparse_file(tmp_path / "x.npy", megabytes)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    grown = int(done.stdout.split()[-1])
    assert grown < megabytes * MIB / 3
