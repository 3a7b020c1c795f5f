"""The pages of a room: the trainer's, and a start page for each seat; and the reports of the seats.

A page takes the token once, in a form, and then knows the browser by a random cookie (HttpOnly, SameSite=Strict). Templates
escape every value, and the scripts of the pages write values as text only. Nothing is loaded from elsewhere.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, abort, jsonify, make_response, redirect, render_template, request

from runbook_lib.aws.seat_file import TOKEN_HEADER
from runbook_lib.run.steps import all_steps
from runbook_sandbox.instruments import clock, fault_injection
from runbook_sandbox.room.seats import Seats
from runbook_sandbox.room.tokens import TRAINER, Tokens
from runbook_sandbox.server import control_commands

COOKIE = "runbook-room"
_MOST_BROWSERS = 1000
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, the Origin of a form would be null
    "Cache-Control": "no-store",
}  # fmt: skip


def application(tokens: Tokens, seats: Seats) -> Any:
    """Return the WSGI application of the pages."""
    app = Flask(__name__, static_url_path="/room/static")
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
    browsers: OrderedDict[str, int] = OrderedDict()

    def visitor() -> int | None:
        return browsers.get(request.cookies.get(COOKIE, ""))

    def require(who: int | None, allowed: bool) -> None:
        if who is None or not allowed:
            abort(make_response(jsonify(error="open /room and enter your token"), 403))

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    @app.get("/room")
    def page() -> Any:
        who = visitor()
        if who is None:
            return render_template("enter.html", refused=False)
        if who == TRAINER:
            steps = list(all_steps().values())
            return render_template("trainer.html", steps=steps, kinds=("throttle", "error", "latency", "drop_after"))
        (seat,) = seats.as_json(who)
        return render_template(
            "seat.html", seat=seat, steps=list(all_steps().values()), url=request.host_url.rstrip("/")
        )

    @app.post("/room/enter")
    def enter() -> Any:
        who = tokens.owner(request.form.get("token", ""))
        if who is None:
            return render_template("enter.html", refused=True), 403
        browsers.pop(request.cookies.get(COOKIE, ""), None)
        known = secrets.token_urlsafe(32)
        browsers[known] = who
        while len(browsers) > _MOST_BROWSERS:
            browsers.popitem(last=False)
        answer = make_response(redirect("/room", 303))
        answer.set_cookie(COOKIE, known, path="/room", httponly=True, samesite="Strict")
        return answer

    @app.post("/room/leave")
    def leave() -> Any:
        browsers.pop(request.cookies.get(COOKIE, ""), None)
        answer = make_response(redirect("/room", 303))
        answer.delete_cookie(COOKIE, path="/room")
        return answer

    @app.get("/room/state")
    def state() -> Any:
        who = visitor()
        require(who, who == TRAINER)
        faults = fault_injection.as_json()
        return jsonify(seats=seats.as_json(), now=clock.now().isoformat(timespec="seconds"), faults=faults)

    @app.get("/room/seat")
    def own_state() -> Any:
        who = visitor()
        require(who, who != TRAINER)
        return jsonify(seats.as_json(who)[0])

    @app.post("/room/do")
    def act() -> Any:
        who = visitor()
        require(who, who == TRAINER)
        command = request.get_json(silent=True)
        if not isinstance(command, dict):
            return jsonify(error="send a JSON object"), 400
        try:
            return jsonify(said=_act(seats, command))
        except (ValueError, LookupError, TypeError) as error:
            return jsonify(error=str(error)), 400

    @app.post("/room/report")
    def report() -> Any:
        who = tokens.owner(request.headers.get(TOKEN_HEADER, ""))
        require(who, who != TRAINER)
        try:
            return jsonify(seats.report(who or 0, request.get_json(silent=True)))
        except (ValueError, LookupError, TypeError) as error:
            return jsonify(error=str(error)), 400

    return app.wsgi_app


def _act(seats: Seats, command: dict[str, Any]) -> str:
    """Carry out what the trainer chose on the page; return what was done. Raises ValueError, LookupError or TypeError."""
    acts: dict[str, Callable[[], str]] = {
        "clock": lambda: f"the clock is now {_control('/runbook/clock', command['body'])['now'][:19]}",
        "pace": lambda: _pace(command["body"]),
        "fault": lambda: _fault(command["body"]),
        "clear_faults": _clear_faults,
        "reset": lambda: seats.reset(command["seat"]),
        "forward": lambda: seats.forward(command["seat"], command["step"]),
    }
    if command.get("do") not in acts:
        raise ValueError(f"{command.get('do')!r} is not an action; choose one of {', '.join(acts)}")
    return acts[command["do"]]()


def _control(path: str, body: Any, method: str = "POST") -> dict[str, Any]:
    status, answer = control_commands.answer(method, path, {}, body)
    if status != 200:
        raise ValueError(answer["error"])
    return answer


def _pace(body: Any) -> str:
    _control("/runbook/progression", body)
    return "clusters become available " + (f"after {body['seconds']} s" if body.get("mode") == "seconds" else "at once")


def _clear_faults() -> str:
    _control("/runbook/faults", None, "DELETE")
    return "all faults were removed"


def _fault(body: Any) -> str:
    _control("/runbook/faults", body)
    return f"the next {body['count']} calls of {body['operation']} meet {body['kind']}"
