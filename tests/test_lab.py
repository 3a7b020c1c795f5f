"""`runbook lab`: one command that starts all, says so in two lines, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from runbook_cli.lab import lab
from runbook_lib.aws import sandbox_process
from runbook_lib.errors import LabUnavailable
from runbook_lib.run.paths import notebooks_folder


def test_a_port_that_is_taken_is_told_in_one_line(world):
    """Exit 1 before anything was started, with the port and the way out."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = world.runbook("lab", "--no-browser", "--port", port, code=1)
    assert done.stderr.startswith(f"error: port {port} cannot be used")
    assert 1 == len(done.stderr.splitlines())
    assert sandbox_process.find(world.folder) is None


def test_zero_takes_a_free_port():
    """And it is one that can be listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", lab.free_port(0)))


def test_a_port_that_is_free_is_kept():
    """`--port N` means N."""
    port = lab.free_port(0)
    assert port == lab.free_port(port)
    with pytest.raises(LabUnavailable):
        lab.free_port(70_000)


def test_without_jupyterlab_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    """It is an extra: headless runs do without."""
    monkeypatch.setattr(lab, "find_spec", lambda _: None)
    with pytest.raises(LabUnavailable, match=r"pip install 'aurora-byok-runbook\[lab,sandbox\]'"):
        lab.serve(tmp_path)


def test_runs_outside_the_checkout_get_a_copy_of_the_notebooks_that_is_kept(tmp_path):
    """Nothing is written into an installed package, and nobody's answers are overwritten."""
    place = lab.place_for(tmp_path)
    assert (tmp_path, tmp_path / "_notebooks") == (place.root, place.notebooks)
    copy = place.notebooks / "00_start.ipynb"
    assert (notebooks_folder() / "00_start.ipynb").read_bytes() == copy.read_bytes()
    copy.write_text("answers")
    lab.place_for(tmp_path)
    assert "answers" == copy.read_text()


def test_runs_in_the_checkout_work_on_its_own_notebooks():
    """Whoever cloned it edits what was cloned."""
    place = lab.place_for(notebooks_folder().parent / "runs")
    assert (notebooks_folder().parent, notebooks_folder()) == (place.root, place.notebooks)
    assert "/lab/tree/runs/START.md" == place.url_path


def test_the_page_is_written_only_when_it_would_say_something_else(tmp_path):
    """Once a second somebody looks; the file changes when a step has finished."""
    place = lab.place_for(tmp_path)
    lab.write_page(place, target="sandbox")
    first = (tmp_path / lab.PAGE).stat().st_mtime_ns
    lab.write_page(place, target="sandbox")
    assert first == (tmp_path / lab.PAGE).stat().st_mtime_ns
    lab.write_page(place, target="aws")
    assert "REAL AWS" in (tmp_path / lab.PAGE).read_text()


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Start `runbook lab` with words, as a process; killed if a test leaves it."""
    pytest.importorskip("playwright")
    from browser import Server

    monkeypatch.delenv("RUNBOOK_SANDBOX_ENDPOINT", raising=False)
    servers = []

    def start(*words, **environment):
        servers.append(Server(tmp_path, *words, **environment))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        sandbox_process.stop(server.runs)


def api(server, path, method="GET"):
    """Ask JupyterLab's own interface."""
    request = urllib.request.Request(  # noqa: S310 - http, on this machine
        f"{server.origin}{path}", method=method, headers={"Authorization": f"token {server.token}"}
    )
    return urllib.request.urlopen(request, timeout=20).read()  # noqa: S310


def listens(server):
    """Say whether JupyterLab's port answers."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(server.origin.rpartition(":")[2]))) == 0


def descendants(pid):
    """Return the command lines of what a process started, and of what those started."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()]
    below, known = [], {str(pid)}
    for _ in rows:
        fresh = [row for row in rows if row[1] in known and row[0] not in known]
        below += fresh
        known |= {row[0] for row in fresh}
    return [(int(row[0]), row[2]) for row in below]


def runs(pid):
    """Say whether a process runs; one that has ended and was not yet collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_end_leaves_no_server_no_kernel_and_no_sandbox(started, number):
    """Two lines and the address at the start, one line at the end; what was started is gone."""
    server = started()
    assert ["Sandbox", "JupyterLab", "Ctrl-C"] == [line.split()[0] for line in server.said]
    api(server, "/api/kernels", "POST")
    below = descendants(server.process.pid)
    assert any("ipykernel" in words for _, words in below)
    assert not any(server.token in words for _, words in below), "a command line can be read by everybody"
    assert sandbox_process.find(server.runs) is not None
    server.process.send_signal(number)
    assert 0 == server.stop()
    assert "JupyterLab, its kernels and the sandbox have stopped." == server.said[-1]
    deadline = time.monotonic() + 10
    while (left := [words for pid, words in below if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [] == left
    assert not listens(server)
    assert sandbox_process.find(server.runs) is None


@pytest.mark.slow
def test_a_sandbox_that_was_running_already_is_left_alone(started, tmp_path):
    """It belongs to whoever started it."""
    running = sandbox_process.ensure(tmp_path / "runs")
    server = started()
    assert 0 == server.stop()
    assert "JupyterLab and its kernels have stopped." == server.said[-1]
    assert running == sandbox_process.find(server.runs)


@pytest.mark.slow
def test_with_target_aws_no_sandbox_is_started_and_the_page_warns(started):
    """The page says it, and so does the terminal."""
    server = started("--target", "aws")
    assert server.said[0].startswith("REAL AWS    no sandbox was started")
    assert sandbox_process.find(server.runs) is None
    assert "⚠ REAL AWS." in (server.runs / "START.md").read_text()
    assert 0 == server.stop()
