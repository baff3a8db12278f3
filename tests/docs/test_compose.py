"""The compose file and the Dockerfile: valid, closed by default, and their very commands work as processes."""

import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from app.cli.stack import child, free_port, scaled_servers, wait_until_ready
from app.client import Client
from app.settings import Settings, StoreSettings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_compose_file_follows_the_compose_specification() -> None:
    schema = json.loads((Path(__file__).parent / "vendor" / "compose-spec.json").read_text(encoding="utf-8"))
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(document)] == []


def test_compose_file_has_the_services_of_the_scaled_form() -> None:
    by_profile: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for profile in service.get("profiles", ["default"]):
            by_profile.setdefault(profile, set()).add(name)
    assert by_profile == {
        "default": {"api", "worker", "postgres", "redis", "migrate"},
        "gpu": {"worker-gpu"},
        "s3": {"seaweedfs", "bucket"},
        "observability": {"prometheus", "grafana"},
    }


def test_only_pages_publish_a_port_and_to_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"api", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


ONE_SHOT = {"migrate", "bucket"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_every_service_that_stays_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_nothing_starts_before_the_database_is_migrated() -> None:
    done = {"condition": "service_completed_successfully"}
    assert all(SERVICES[name]["depends_on"]["migrate"] == done for name in ("api", "worker", "worker-gpu"))


def test_passwords_have_no_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = re.findall(r"\$\{(\w*PASSWORD)(.)", text)
    assert {name for name, _ in used} == {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
    assert {sign for _, sign in used} == {":"}
    assert len(re.findall(r"\$\{\w*PASSWORD:\?", text)) == len(used)


def test_the_bucket_is_there_before_anybody_uses_it_and_missed_by_nobody_without_the_profile() -> None:
    wanted = {"condition": "service_completed_successfully", "required": False}
    assert all(SERVICES[name]["depends_on"]["bucket"] == wanted for name in ("api", "worker", "worker-gpu"))
    assert SERVICES["bucket"]["depends_on"]["seaweedfs"] == {"condition": "service_healthy"}


def test_every_variable_has_a_line_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    interpolated = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    passed_on = {name for name, value in SERVICES["api"]["environment"].items() if value is None}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#?([A-Z_]+)=", example, flags=re.MULTILINE)) == interpolated | passed_on
    assert re.findall(r"^\w*(?:PASSWORD|KEY)=.+", example, flags=re.MULTILINE) == [], "an example brings no secret"


def test_every_setting_that_services_are_given_is_one() -> None:
    given = {name for name in SERVICES["api"]["environment"] if name.startswith("LEANFUSE_")}
    known = {f"LEANFUSE_{name.upper()}" for name in Settings.model_fields}
    known |= {f"LEANFUSE_STORE__{name.upper()}" for name in StoreSettings.model_fields}
    assert given <= known


def test_empty_variables_are_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["api"]["environment"].items():
        if value and value.endswith(":-}"):
            monkeypatch.setenv(name, "")
    settings = Settings()
    assert settings.store == StoreSettings()


def test_names_of_the_stack_are_answered_to() -> None:
    written = SERVICES["api"]["environment"]["LEANFUSE_ALLOWED_HOSTS"]
    names = json.loads(written.removeprefix("${LEANFUSE_ALLOWED_HOSTS:-").removesuffix("}"))
    assert {"localhost", "127.0.0.1", "api"} <= set(names)


def test_every_file_that_a_service_mounts_is_here() -> None:
    mounted = [str(volume) for service in SERVICES.values() for volume in service.get("volumes", ())]
    files = [volume.split(":")[0] for volume in mounted if volume.startswith("./")]
    assert len(files) == 4
    assert all((ROOT / file).exists() for file in files)


def test_every_build_target_is_a_stage_of_the_dockerfile() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, flags=re.MULTILINE))
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} <= stages


def test_images_run_as_an_ordinary_user() -> None:
    runtime = DOCKERFILE.split("AS runtime")[1]
    assert re.search(r"^USER leanfuse$", runtime, flags=re.MULTILINE)
    assert "USER root" not in runtime


def test_api_image_has_no_tensorflow() -> None:
    build = DOCKERFILE.split("AS build-api")[1].split("FROM")[0]
    assert "uv sync" in build
    assert re.findall(r"--extra (\S+)", build) == ["openvino"], "what serves, not what trains"


def test_images_use_the_locked_uv() -> None:
    (locked,) = re.findall(r'name = "uv"\nversion = "([^"]+)"', (ROOT / "uv.lock").read_text(encoding="utf-8"))
    assert f"uv=={locked}" in DOCKERFILE


@pytest.mark.timeout(240)
def test_commands_of_the_compose_file_train_and_serve(tmp_path: Path) -> None:
    """Run migrate, api and worker exactly as the file says, but for the port, on a real database and broker."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "service.log"
    spec = {
        "kind": "train",
        "name": "digits-mlp",
        "dataset": "digits",
        "architecture": {"type": "mlp", "hidden": [16]},
        "training": {"epochs": 1},
    }
    with ExitStack() as stack:
        environment = {"LEANFUSE_HOME": str(tmp_path), **stack.enter_context(scaled_servers())}
        migrate = stack.enter_context(child(_command("migrate"), environment, log=log))
        assert migrate.wait(60) == 0, log.read_text(encoding="utf-8")
        api = stack.enter_context(child(_command("api", port=port), environment, log=log))
        stack.enter_context(child(_command("worker"), environment, log=log))
        wait_until_ready(url, api, log=log)
        client = stack.enter_context(Client(url))
        client.datasets.add_builtin("digits")
        job = client.jobs.wait(client.jobs.submit(spec)["id"], timeout_seconds=150)
        assert job["state"] == "succeeded", log.read_text(encoding="utf-8")
        assert len(client.models.predictions("digits-mlp", dataset="digits", limit=3)["predictions"]) == 3


def _command(service: str, *, port: int = 8000) -> list[str]:
    """Return a service's command, its programs taken from this environment, its port replaced."""
    program, *arguments = [str(part) for part in SERVICES[service]["command"]]
    where = {"8000": str(port), "0.0.0.0": "127.0.0.1"}
    return [str(Path(sys.executable).with_name(program)), *(where.get(part, part) for part in arguments)]
