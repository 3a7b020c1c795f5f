"""`runbook lab`: one command that starts all, says so in two lines, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from runbook_cli.lab import copies, lab
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


def read(path):
    """Return a notebook as JSON."""
    return json.loads(path.read_text())


def test_the_lab_works_on_copies_without_outputs_below_the_runs_folder(tmp_path):
    """Nobody takes a stored page for a run of their own, and neither checkout nor package is written to."""
    place = lab.place_for(tmp_path)
    assert (tmp_path, tmp_path / "_notebooks", ()) == (place.root, place.notebooks, place.edited)
    assert "/lab/tree/START.md" == place.url_path
    for source in notebooks_folder().glob("*.ipynb"):
        assert copies.has_outputs(read(source))
        assert not copies.has_outputs(read(place.notebooks / source.name))
        assert copies.digest(read(source)) == copies.digest(read(place.notebooks / source.name))


def test_a_copy_that_nobody_edited_is_renewed_when_the_package_changes(tmp_path, monkeypatch):
    """With whatever a front end saved in it; the twin, edited, is kept and named."""
    package = tmp_path / "package"
    shutil.copytree(notebooks_folder(), package)
    monkeypatch.setattr(copies, "notebooks_folder", lambda: package)
    folder = lab.place_for(tmp_path / "runs").notebooks
    for name, text in (("00_start.ipynb", None), ("01_create_key.ipynb", "my answer")):
        page = read(folder / name)
        page["metadata"]["language_info"] = {"name": "python", "version": "3.11.7"}
        page["cells"][0]["metadata"]["collapsed"] = True
        if text:
            page["cells"].append({"cell_type": "markdown", "metadata": {}, "source": [text]})
        (folder / name).write_text(json.dumps(page))
    assert ("01_create_key.ipynb",) == lab.place_for(tmp_path / "runs").edited
    for name in ("00_start.ipynb", "01_create_key.ipynb"):
        page = read(package / name)
        page["cells"][0]["source"] = "# Another title"
        (package / name).write_text(json.dumps(page))
    assert ("01_create_key.ipynb",) == lab.place_for(tmp_path / "runs").edited
    assert "# Another title" == read(folder / "00_start.ipynb")["cells"][0]["source"]
    assert ["my answer"] == read(folder / "01_create_key.ipynb")["cells"][-1]["source"]


def test_copies_of_an_earlier_version_lose_the_outputs_of_another_account(tmp_path):
    """It copied notebooks with their outputs, and noted no digests."""
    folder = tmp_path / "_notebooks"
    shutil.copytree(notebooks_folder(), folder)
    assert () == lab.place_for(tmp_path).edited
    assert not any(copies.has_outputs(read(page)) for page in folder.glob("*.ipynb"))


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
