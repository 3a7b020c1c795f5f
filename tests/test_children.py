"""What every process that is started here is given: no secret on a command line, and in an environment only where it is used."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import pytest
from leaks import in_content
from openssl import oaep_options, openssl, private_key, private_pem, public_pem, put

from runbook_lib.aws import sandbox_process

ROOT = Path(__file__).parent.parent
PASSWORD = "a recovery pass phrase of some length"  # noqa: S105 - planted, to be found nowhere
KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
BROWSER = """#!{python}
import json, os, sys
with open(os.path.join({folder!r}, "browser"), "w") as file:
    json.dump({{"argv": sys.argv[1:], "environment": dict(os.environ)}}, file)
"""


class Watched:
    """Every Python process below says here how it was started, and how it starts others."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder / "watched", folder / "runs"
        self.folder.mkdir()
        own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_", "JUPYTER"))},
            **{name: str(folder / name.lower()) for name in own},
            "RUNBOOK_RUNS_DIR": str(self.runs),
            "PYTHONPATH": str(ROOT / "tests" / "watched"),
            "PYTHONWATCHEDCHILDREN": str(self.folder),
        }

    @property
    def started(self) -> list[tuple[list[str], dict[str, str]]]:
        lines = (self.folder / "environments").read_text().splitlines()
        return [(one["argv"], one["environment"]) for one in map(json.loads, lines)]

    def kinds(self, secret: str) -> set[str]:
        """Return which kinds of processes have a secret in their environment."""
        return {
            kind(words)
            for words, environment in self.started
            if in_content(repr(environment).encode(), [secret.encode()])
        }


def kind(words: list[str]) -> str:
    """Return what a process is, by its command line."""
    line = " ".join(words)
    for name in ("runbook_sandbox", "runbook_kernels.server", "ipykernel_launcher", "jupyterlab", "runbook_cli.main"):
        if name in line:
            return name
    return line


@pytest.fixture
def watched(tmp_path):
    there = Watched(tmp_path)
    yield there
    sandbox_process.stop(there.runs)


def below(pid: int) -> list[int]:
    """Return the processes that one started, and that those started."""
    rows = [line.split() for line in subprocess.check_output(["ps", "-eo", "pid=,ppid="], text=True).splitlines()]
    known = {str(pid)}
    for _ in rows:
        known |= {row[0] for row in rows if row[1] in known}
    return sorted(map(int, known))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_the_token_of_the_lab_is_on_no_command_line_and_in_no_environment(watched, tmp_path):
    """The browser is given a page that only its owner can read; it leads to JupyterLab, and is gone at the end."""
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable, folder=str(watched.folder)))
    browser.chmod(0o700)
    lab = subprocess.Popen(
        [sys.executable, "-m", "runbook_cli.main", "lab"], env={**watched.environment, "BROWSER": str(browser)}, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (watched.folder / "browser").is_file() or not (watched.folder / "browser").read_text():
            assert time.monotonic() < deadline
            assert lab.poll() is None, lab.communicate()
            time.sleep(0.1)
        given = json.loads((watched.folder / "browser").read_text())
        assert 1 == len(given["argv"])
        assert given["argv"][0].startswith("file:///")
        page = Path(unquote(urlsplit(given["argv"][0]).path))
        assert (0o600, 0o700) == (stat.S_IMODE(page.stat().st_mode), stat.S_IMODE(page.parent.stat().st_mode))
        match = re.search(r"url=(http://127\.0\.0\.1:\d+)(/lab/tree/\S+)\?token=([0-9a-f]{32})\"", page.read_text())
        assert match is not None
        origin, path, token = match.groups()
        assert [] == in_any_process(lab.pid, token), "before any kernel"
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{origin}/api/kernels", timeout=20)  # noqa: S310 - http, on this machine
        assert b"JupyterLab" in urlopen(html.unescape(f"{origin}{path}?token={token}"), timeout=20).read()  # noqa: S310
        kernel = Request(f"{origin}/api/kernels", method="POST", headers={"Authorization": f"token {token}"})  # noqa: S310
        urlopen(kernel, timeout=20).close()  # noqa: S310
        assert [] == in_any_process(lab.pid, token)
        lab.send_signal(signal.SIGINT)
        said, _ = lab.communicate(timeout=60)
    finally:
        lab.kill()
    assert token not in said
    assert token not in repr(given)
    assert {"runbook_cli.main", "jupyterlab", "ipykernel_launcher", "runbook_sandbox"} <= {
        kind(words) for words, _ in watched.started
    }
    assert token not in (watched.folder / "environments").read_text()
    assert not page.parent.exists()


def in_any_process(pid: int, token: str) -> list[int]:
    """Return the processes below `pid` that have the token on their command line or in their environment."""
    found = []
    for one in below(pid):
        try:
            told = Path(f"/proc/{one}/cmdline").read_bytes() + Path(f"/proc/{one}/environ").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        found += [one] if token.encode() in told else []
    return found


@pytest.mark.slow
def test_a_browser_that_cannot_be_started_leaves_the_address(watched):
    """As on a machine without one; with --no-browser nothing else is promised."""
    lab = subprocess.Popen(
        [sys.executable, "-m", "runbook_cli.main", "lab", "--target", "aws"],
        env={**watched.environment, "BROWSER": "false"}, cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert lab.stdout is not None
        said = [lab.stdout.readline() for _ in range(4)]
        lab.send_signal(signal.SIGINT)
        lab.communicate(timeout=60)
    finally:
        lab.kill()
    assert re.match(
        r"No browser could be started; open http://127.0.0.1:\d+/lab/tree/\S+\?token=[0-9a-f]{32}$", said[3]
    )


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["forked", "plain"])
def test_a_run_gives_no_secret_to_a_command_line_and_a_password_only_to_whom_it_is_for(watched, tmp_path, kernel):
    """The material is opened from a recovery copy, whose password comes through the environment; two runs side by side."""
    put(tmp_path / "private.pem", private_pem(private_key(2048), PASSWORD.encode()))
    put(tmp_path / "public.pem", public_pem(private_key(2048)))
    put(tmp_path / "raw", KNOWN)
    sealed = openssl("pkeyutl", "-encrypt", "-in", "raw", "-inkey", "public.pem", "-pubin", *oaep_options("sha256"),
                     folder=tmp_path)  # fmt: skip
    put(tmp_path / "copy.bin", sealed)
    asked = [
        f"{name}={value}" for name, value in {
            "key_material_source": "recovery", "key_material_file": tmp_path / "copy.bin", "custody": "none",
            "accept_no_custody": "true", "recovery_private_key": tmp_path / "private.pem",
            "recovery_password_from": "env:RECOVERY_PASSWORD", "poll_seconds": 2, "exercises": "false",
        }.items()
    ]  # fmt: skip
    (tmp_path / "run.yaml").write_text("\n".join(line.replace("=", ": ", 1) for line in asked) + "\n")
    for name in ("a", "b"):
        shutil.copy(tmp_path / "run.yaml", tmp_path / f"{name}.yaml")
    files = [str(tmp_path / f"{name}.yaml") for name in ("a", "b")]
    done = subprocess.run(
        [sys.executable, "-m", "runbook_cli.main", "run", *files, "--kernel", kernel],
        env={**watched.environment, "RECOVERY_PASSWORD": PASSWORD}, cwd=ROOT, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr
    assert set() == in_content((watched.folder / "argv").read_bytes(), [PASSWORD.encode(), KNOWN])
    assert {"runbook_sandbox", "runbook_cli.main"} <= {kind(words) for words, _ in watched.started}
    assert ("runbook_kernels.server" in {kind(words) for words, _ in watched.started}) == (kernel == "forked")
    # `uname -p` is Python's own: the module `platform` asks so for the processor.
    assert watched.kinds(PASSWORD) <= {"runbook_cli.main", "ipykernel_launcher", "uname -p"}
