"""Everything that comes from a file or a person is checked where it comes in: one line, never a traceback, nothing done."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from runbook_cli.parameters import from_command_line, read_parameters
from runbook_lib.aws import sandbox_process
from runbook_lib.errors import (
    InputError,
    ParameterFileInvalid,
    PrivateFileUnsafe,
    RunLocked,
    RunUnreadable,
    SandboxUnavailable,
)
from runbook_lib.inputs.kms import CreateKeyInputs
from runbook_lib.run import drafts
from runbook_lib.run.current import read_current
from runbook_lib.run.lock import run_lock
from runbook_lib.run.paths import runs_folder
from runbook_lib.run.run import Run, all_runs
from runbook_sandbox.server.middleware import Gate

TARGET = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "x"}
DEEP = "[" * 200_000
LAUGHS = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\n"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(folder))
    monkeypatch.delenv(sandbox_process.ENDPOINT_VARIABLE, raising=False)
    return folder


# Run ids and file names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run_id", ["../outside", "..", ".", "", "a/b", "/etc", "a\\b", "a\nb", "-x", "_notebooks", "x\x1b[1A"]
)
def test_a_run_id_stays_in_the_runs_folder(runs, run_id):
    """No command and no notebook opens a run elsewhere, also when there is one."""
    outside = runs.parent / "outside"
    Run.create("outside", runs_dir=runs.parent, target=TARGET)
    assert (outside / "state.json").is_file()
    with pytest.raises(InputError, match="is not a valid run ID"):
        Run.open(run_id)


@pytest.mark.parametrize("words", [
    ["status"], ["recover", "--check"], ["clean-up"], ["run", "--run-id"], ["permissions", "--run-id"],
], ids=lambda words: words[0])  # fmt: skip
def test_a_command_refuses_a_run_id_that_climbs(world, words):
    """Exit 2 and one line, and nothing is written outside."""
    Run.create("outside", runs_dir=world.folder.parent, target=TARGET)
    before = sorted(path.name for path in world.folder.parent.rglob("*"))
    done = world.runbook(*words, "../outside", code=2)
    assert "'../outside' is not a valid run ID" in done.stderr
    assert 1 == len(done.stderr.splitlines())
    assert before == sorted(path.name for path in world.folder.parent.rglob("*") if not path.name.startswith("sandbox"))


@pytest.mark.parametrize("name", ["../other/secret", "/etc/hostname", "..", "a/../../x", "", "a\nb"])
def test_a_record_names_files_of_its_run_only(runs, name):
    """A path that leaves the run folder, in state.json or custody.json, is neither read nor written."""
    run = Run.create("demo", target=TARGET)
    for use in (lambda: run.read(name), lambda: run.write(name, b"x")):
        with pytest.raises(RunUnreadable, match="not one of its folder"):
            use()


# state.json, the lock --------------------------------------------------------------------------------------------------

WRONG = {
    "deep": DEEP,
    "list": "[]",
    "a run id that climbs": {"run_id": "../x"},
    "a run id of two lines": {"run_id": "a\nb"},
    "no account": {"target": {**TARGET, "account_id": "1; rm"}},
    "no Region": {"target": {**TARGET, "region": "eu-west-2\x1b[1A"}},
    "no target": {"target": {**TARGET, "target": "prod"}},
    "a step without times": {"steps": {"01_create_key": {"status": "finished", "inputs": {}, "intents": {}, "record": {}}}},
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_state_of_wrong_values_is_refused_in_one_line(runs, wrong):
    """By whatever reads it; a list of all runs leaves it out."""
    run = Run.create("demo", target=TARGET)
    file = run.path / "state.json"
    file.write_text(wrong if isinstance(wrong, str) else json.dumps({**json.loads(file.read_text()), **wrong}))
    with pytest.raises(RunUnreadable, match="is damaged") as told:
        Run.open("demo")
    assert 1 == len(str(told.value).splitlines())
    assert [] == all_runs()


@pytest.mark.parametrize("content", ["[]", "1", "null", '"x"', DEEP, '{"token": 1}', "\x00"], ids=range(7))
def test_a_lock_whose_holder_is_unknown_is_still_a_lock(runs, monkeypatch, content):
    """The file that names the holder is only for the message."""
    monkeypatch.setenv("RUNBOOK_LOCK_TOKEN", "x")
    run = Run.create("demo", target=TARGET)
    with run_lock(run.path, what="first"):
        (run.path / ".lock-holder.json").write_text(content)
        with pytest.raises(RunLocked, match="held by another process"), run_lock(run.path, what="second"):
            pytest.fail("entered")


@pytest.mark.parametrize("content", ["[]", "1", "null", DEEP, "\x00", '{"x": 1}'], ids=range(6))
def test_a_damaged_draft_is_none(runs, content):
    """What a person had not applied is not worth a traceback."""
    run = Run.create("demo", target=TARGET)
    (run.path / "drafts").mkdir(mode=0o700)
    (run.path / "drafts" / "01_create_key.json").write_text(content)
    assert {} == drafts.read(run, "01_create_key", CreateKeyInputs)


@pytest.mark.parametrize("content", ["../outside", "a/b", "\x1b[1A", "x" * 1000, "\x00"], ids=range(5))
def test_the_current_run_is_a_name_in_the_runs_folder(runs, content):
    """A file that names anything else names no run."""
    (runs / ".current-run").write_text(content)
    assert "" == read_current(runs / ".current-run")


# Parameter files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]\n", "a: &x 1\nb: *x\n", "base: &b {x: 1}\nmore: {<<: *b}\n"])
def test_a_parameter_file_has_no_aliases(tmp_path, text):
    """Aliases of aliases would grow without bound; the line and the name are told."""
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(ParameterFileInvalid, match=r"has the alias \*[abx] at line \d"):
        read_parameters(file)
    with pytest.raises(InputError, match="is not a valid value"):
        from_command_line([("tags", "[&a [x], *a]")])


def test_an_anchor_alone_is_harmless(tmp_path):
    """The twin: what is not repeated does not grow."""
    (tmp_path / "p.yaml").write_text("key_alias: &name alias/x\n")
    assert {"key_alias": "alias/x"} == read_parameters(tmp_path / "p.yaml")


# The sandbox's address -------------------------------------------------------------------------------------------------


def note(runs: Path, **changed: object) -> None:
    content = {"format": 1, "url": "http://127.0.0.1:9", "pid": 1, "sandbox_id": "x", **changed}
    (runs / "sandbox.json").write_text(json.dumps(content))


@pytest.mark.parametrize("url", [
    "http://evil.example:80", "http://169.254.169.254", "https://kms.eu-west-2.amazonaws.com", "http://127.0.0.1.evil.example",
    "http://user@127.0.0.1:5000", "file:///etc/passwd", "http://", "http://[::1", "http://127.0.0.1:99999", "", "x\x1b[1A",
])  # fmt: skip
def test_the_address_in_the_runs_folder_is_checked_like_the_one_in_the_environment(runs, monkeypatch, url):
    """Neither is called unless it is on this machine; the message names the file, or the variable."""
    monkeypatch.setattr(sandbox_process.opener, "open", lambda *_, **__: pytest.fail("called"))
    note(runs, url=url)
    for use in (sandbox_process.find, sandbox_process.ensure, sandbox_process.stop):
        with pytest.raises(SandboxUnavailable, match=r"sandbox\.json") as told:
            use(runs)
        assert str(told.value).isprintable()
    if url:
        monkeypatch.setenv(sandbox_process.ENDPOINT_VARIABLE, url)
        with pytest.raises(SandboxUnavailable, match=sandbox_process.ENDPOINT_VARIABLE):
            sandbox_process.find(runs)


def test_the_host_that_was_allowed_is_allowed_for_both(runs, monkeypatch):
    """The twin: RUNBOOK_SANDBOX_HOST names it, and it is called."""
    called = []
    monkeypatch.setenv(sandbox_process.HOST_VARIABLE, "10.0.0.5")
    monkeypatch.setattr(
        sandbox_process, "identify", lambda url, **_: called.append(url) or sandbox_process.Sandbox(url, "x")
    )
    note(runs, url="http://10.0.0.5:5000")
    assert sandbox_process.find(runs) is not None
    assert ["http://10.0.0.5:5000"] == called


@pytest.mark.parametrize("content", [DEEP, "[]", "null", "{}", '{"format": "1"}', '{"format": 1, "url": 5, "sandbox_id": []}'],
                         ids=range(6))  # fmt: skip
def test_a_damaged_address_file_is_as_none(runs, content):
    """Wrong types and deep JSON are no sandbox, without a traceback."""
    (runs / "sandbox.json").write_text(content)
    assert sandbox_process.find(runs) is None


class Answering(http.server.BaseHTTPRequestHandler):
    """A server that leads elsewhere, or answers what no sandbox answers."""

    def do_GET(self) -> None:
        body = DEEP.encode() if "deep" in self.server.server_name else b""
        self.send_response(200 if body else 302)
        self.send_header("Location", "http://127.0.0.2:1/runbook/identity")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", ["redirect", "deep"])
def test_a_server_that_is_no_sandbox_is_none(runs, kind):
    """A redirect is not followed, to nowhere; an answer that is nested too deeply is none."""
    with http.server.HTTPServer(("127.0.0.1", 0), Answering) as server:
        server.server_name = kind
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(SandboxUnavailable, match="no sandbox answers at") as told:
            sandbox_process.identify(f"http://127.0.0.1:{server.server_port}", timeout=10)
        assert kind == "deep" or "302" in str(told.value)


# Who may write the runs folder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_runs_folder_that_others_can_write_is_refused(runs, mode):
    """They could put a state.json or a sandbox.json of their own there."""
    runs.chmod(mode)
    for use in (runs_folder, all_runs, lambda: Run.open("demo")):
        with pytest.raises(PrivateFileUnsafe, match=rf"mode {mode:04o}\); run: chmod go-w {runs}"):
            use()
    runs.chmod(0o755)
    assert runs == runs_folder()


def test_a_runs_folder_of_another_user_is_refused(runs, monkeypatch):
    """Its owner could change everything in it at any time."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(
        PrivateFileUnsafe, match=r"belongs to another user \(uid \d+\); give the path of a folder that belongs to you"
    ):
        runs_folder()


def test_a_command_refuses_such_a_folder_in_one_line(world):
    """Before it starts a sandbox in it or believes the one that is noted there."""
    world.folder.chmod(0o777)
    for words in (["status"], ["run"], ["sandbox", "--stop"], ["sandbox", "advance", "1h"]):
        done = world.runbook(*words, code=1)
        assert (
            f"error: {world.folder} can be written by others (mode 0777); run: chmod go-w {world.folder}\n"
            == done.stderr
        )
    world.folder.chmod(0o700)


# DNS rebinding ---------------------------------------------------------------------------------------------------------


def refused(host: str, header: str) -> bool:
    answers = []
    gate = Gate(lambda *_: [b""], host=host)
    environ = {"PATH_INFO": "/", "REQUEST_METHOD": "GET", "HTTP_HOST": header, "CONTENT_LENGTH": "0"}
    gate(environ, lambda status, _: answers.append(status))
    return answers == ["403 FORBIDDEN"]


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "trainer.lan", "::"])  # noqa: S104 - nothing is bound
def test_a_sandbox_that_serves_a_network_knows_its_names(monkeypatch, host):
    """A name that an attacker points at its address is refused; addresses, its own names and this machine's are not."""
    monkeypatch.setenv(sandbox_process.HOST_VARIABLE, "class.example")
    for header in ("evil.example", "evil.example:5000", "127.0.0.1.evil.example", "", "10.0.0.5.nip.io"):
        assert refused(host, header), header
    for header in (
        "10.0.0.5:5000",
        "[fe80::1]:5000",
        "127.0.0.1",
        "localhost:80",
        socket.gethostname(),
        "class.example",
    ):
        assert not refused(host, header), header
    assert refused("trainer.lan", "other.lan")
    assert not refused("trainer.lan", "trainer.lan:5000")


@pytest.mark.parametrize("header", ["10.0.0.5", socket.gethostname(), "0.0.0.0"])  # noqa: S104 - nothing is bound
def test_a_sandbox_on_loopback_serves_this_machine_only(header):
    """The twin: without --host not even addresses of this machine's other networks."""
    assert refused("127.0.0.1", header)


# What the sandbox's process gets ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
@pytest.mark.parametrize("home", ["a folder", "none"])
def test_the_sandbox_has_nothing_of_its_starters_environment(runs, tmp_path, monkeypatch, home):
    """No secret, no name of AWS's and not the home folder with its configuration; it starts where there is none, too."""
    aws = tmp_path / "home" / ".aws"
    aws.mkdir(parents=True)
    (aws / "config").write_text("[default\nthis is not a configuration")
    if home == "none":
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
    planted = {"AWS_PROFILE": "prod-x1", "AWS_SECRET_ACCESS_KEY": "secret-x2", "RECOVERY_PASSWORD": "secret-x3",
               "PKCS11_PIN": "9999-x4", "RUNBOOK_LOCK_TOKEN": "x5-token", "JUPYTER_TOKEN": "x6-token"}  # fmt: skip
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_CTYPE", "C.UTF-8")
    try:
        assert sandbox_process.ensure(runs).sandbox_id
        pid = json.loads((runs / "sandbox.json").read_text())["pid"]
        given = dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line)
    finally:
        sandbox_process.stop(runs)
    assert [] == [name for name in given if name.startswith("AWS_") or name in planted]
    assert not set(planted.values()) & set(given.values())
    assert str(tmp_path / "home") not in given.values()
    assert "C.UTF-8" == given["LC_CTYPE"]
    assert 1 == len((runs / "sandbox.log").read_text().splitlines())
