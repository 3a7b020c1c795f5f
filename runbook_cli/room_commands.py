"""`runbook room`: serve a sandbox for a class, with a page for the trainer; `runbook seat`: take a seat in one."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_cli.common import echo, print_line, report_errors, runs_dir_option
from runbook_lib.run.paths import runs_folder, shown


@click.command()
@click.option("--seats", type=click.IntRange(1, 99), default=12, show_default=True, help="Number of learners.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve: that of this machine.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="Port; 0 picks a free one."
)
@click.option(
    "--name", "names", multiple=True, help="A name of this machine that learners use in its place. Repeatable."
)
@runs_dir_option
@report_errors
def room(seats: int, host: str, port: int, names: tuple[str, ...], runs_dir: Path | None) -> None:
    """Serve a class: one sandbox, a token for each seat, and a page for the trainer.

    Serves until interrupted. The tokens are kept in the runs folder, in files that only you can read.
    """
    from runbook_lib.aws import sandbox_process, seat_file
    from runbook_lib.errors import InputError
    from runbook_lib.files import private_folder
    from runbook_sandbox.server.starting import quick_imports

    if host in ("0.0.0.0", "::") and not names:  # noqa: S104 - compared, not bound
        raise InputError([("--host", f"{host} is every address; say with --name which name or address learners use")])
    sandbox_process.require_installed()
    with quick_imports():
        from runbook_sandbox.room import tokens
        from runbook_sandbox.room.room import Room
        from runbook_sandbox.server.server import serve

    folder = private_folder(runs_folder(runs_dir), parents=True)
    known = tokens.load(folder, seats)
    file = folder / seat_file.FILE_NAME
    if (taken := seat_file.read(folder)) is not None and taken.seat != tokens.TRAINER:
        where = f"{shown(file)} is seat {taken.seat} of {taken.url}"
        raise InputError(
            [("--runs-dir", f"{where}; choose another folder for the room, or leave that seat: delete it")]
        )

    def announce(url: str) -> None:
        used = f"http://{names[0]}:{url.rpartition(':')[2]}" if names else url
        slips = tokens.write_slips(folder, used, known)
        seat_file.write(folder, seat_file.Seat(url, tokens.TRAINER, known[tokens.TRAINER]))
        print_line(f"Trainer     {used}/room")
        print_line(f"  token     in {shown(folder / tokens.FOLDER / tokens.FILE)}, under 0")
        print_line(f"Learners    {seats} seats; a slip for each in {shown(slips)}")
        print_line("Ctrl-C ends the room and everything in its accounts; the tokens are kept.")

    own = ("127.0.0.1", "localhost") if host in ("0.0.0.0", "::") or sandbox_process.is_loopback(host) else ()  # noqa: S104
    walls = Room(known, names=[*own, *names, *([] if host in ("0.0.0.0", "::") else [host.strip("[]")])])  # noqa: S104
    try:
        serve(host=host, port=port, allow_remote=not sandbox_process.is_loopback(host), announce=announce, room=walls)
    finally:
        file.unlink(missing_ok=True)


@click.command()
@click.argument("number", type=click.IntRange(1, 99))
@click.option("--room", "url", required=True, help="Address of the room, such as http://10.0.0.5:5000.")
@click.option("--token-from", default="prompt", show_default=True, help="prompt, env:NAME or file:PATH.")
@click.option("--name", default="", help="Your name, as the trainer sees it.")
@runs_dir_option
@report_errors
def seat(number: int, url: str, token_from: str, name: str, runs_dir: Path | None) -> None:
    """Take seat NUMBER of a room; the commands and notebooks of this runs folder then work there.

    Writes seat.json in the runs folder, with the token, in a file that only you can read. To leave, delete it.
    """
    from urllib.parse import urlsplit

    from runbook_lib.aws import sandbox_process, seat_file
    from runbook_lib.aws.sandbox_accounts import account_of_seat
    from runbook_lib.errors import InputError
    from runbook_lib.files import private_folder
    from runbook_lib.material import secret_sources

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise InputError([("--room", f"{url!r} is not the address of a room; write one such as http://10.0.0.5:5000")])
    try:
        secret_sources.check_origin(token_from)
    except ValueError as error:
        raise InputError([("--token-from", str(error))]) from None
    token = secret_sources.read_pass_phrase(token_from, what=f"Token of seat {number}").strip()
    place = seat_file.Seat(f"{parts.scheme}://{parts.netloc}", number, token, name[:60])
    seat_file.remember(place)
    sandbox_process.identify(place.url)
    folder = private_folder(runs_folder(runs_dir), parents=True)
    seat_file.write(folder, place)
    echo(f"Seat {number}, account {account_of_seat(number)}, of the room at {place.url}.")
    echo("Open the notebooks with: make lab (or runbook lab)")
