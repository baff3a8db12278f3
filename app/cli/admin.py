"""`leanfuse db`: for whoever runs the service."""

import typer

from app.cli.options import Json

database_commands = typer.Typer(help="Look after the database.", no_args_is_help=True, rich_markup_mode=None)


@database_commands.command("upgrade")
def upgrade_database(json_output: Json = False) -> None:
    """Bring the database that LEANFUSE_DATABASE_URL names to the newest schema."""
    from app.cli.render import print_json, say
    from app.db.migrate import upgrade
    from app.logging import redact
    from app.settings import Settings

    settings = Settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade(settings.database_url)
    say("The database has the newest schema.")
    if json_output:
        print_json({"database": redact(settings.database_url), "newest_schema": True})
