"""`leanfuse models promote`, `rollout` and `rollback`: move aliases with care."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.completion import complete_alias, complete_model
from app.cli.options import Json, Reference, Url, connect

AliasName = Annotated[str, typer.Argument(help="The alias.", autocompletion=complete_alias, show_default=False)]
ModelName = Annotated[str, typer.Argument(help="The model.", autocompletion=complete_model, show_default=False)]


def promote(
    reference: Reference,
    alias: AliasName,
    force: Annotated[bool, typer.Option("--force", help="Also a version that was rejected.")] = False,
    require: Annotated[
        list[str] | None, typer.Option(help="A condition, such as max_drop=0.01 or min_agreement=0.95; repeatable.")
    ] = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Point an alias at a version: it is loaded and verified first, and conditions are checked."""
    with connect(url) as client:
        name, version = _version(client, reference)
        if require:
            document = client.models.promote(name, alias, version, require=_read(require), force=force)
        else:
            document = client.models.set_alias(name, alias, version, force=force)
    _print(document, {"model": f"{name}/{version}", "aliases": " ".join(document["aliases"])}, json_output)


def rollout(
    reference: Reference,
    alias: AliasName,
    percent: Annotated[int, typer.Option(min=1, max=100, help="Share of the requests.")] = 10,
    shadow: Annotated[bool, typer.Option("--shadow", help="Run beside, unseen, instead of answering.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also a version that was rejected.")] = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Let a candidate answer a share of an alias' requests, or run beside them; again, to change the share."""
    with connect(url) as client:
        name, version = _version(client, reference)
        mode = "shadow" if shadow else "split"
        document = client.models.roll_out(name, alias, version, mode=mode, percent=percent, force=force)
    shown = {"alias": f"{name}@{alias}", **{key: document[key] for key in ("stable", "candidate", "mode", "percent")}}
    _print(document, shown, json_output)


def rollback(
    name: ModelName,
    alias: AliasName,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Undo the latest change of an alias: end its rollout, or else point it where it pointed before."""
    with connect(url) as client:
        document = client.models.roll_back(name, alias)
    _print(document, {"alias": f"{name}@{alias}", "version": document["version"]}, json_output)


def remove_alias(name: ModelName, alias: AliasName, url: Url = None, json_output: Json = False) -> None:
    """Remove an alias; the version that it named stays."""
    with connect(url) as client:
        client.models.delete_alias(name, alias)
    _print({"name": name, "alias": alias, "removed": True}, {"removed": f"{name}@{alias}"}, json_output)


def version_of(model: Mapping[str, Any], alias: str | None) -> int:
    """Return the version that an alias points at, or the newest; raise ModelNotFoundError."""
    from app.domain.errors import ModelNotFoundError

    if alias is None:
        return int(model["newest"]["version"])
    if alias not in model["aliases"]:
        raise ModelNotFoundError(
            f"{model['name']} has no alias {alias!r}.", hint=f"It has: {model['aliases'] or 'none'}."
        )
    return int(model["aliases"][alias])


def _version(client: Any, reference: str) -> tuple[str, int]:  # noqa: ANN401 - the client is imported late
    from app.domain.references import parse_reference

    name, version, alias = parse_reference(reference)
    return name, version if version is not None else version_of(client.models.get(name), alias)


def _read(conditions: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for condition in conditions:
        name, _, value = condition.partition("=")
        try:
            found[name] = int(value) if value.isdecimal() else float(value)
        except ValueError:
            told = f"{condition!r} is no condition; write max_drop=0.01."
            raise typer.BadParameter(told, param_hint="--require") from None
    return found


def _print(document: Mapping[str, Any], fields: Mapping[str, Any], json_output: bool) -> None:
    from app.cli import render

    if json_output:
        render.print_json(document)
        return
    render.print_fields({name: str(value) for name, value in fields.items()})
