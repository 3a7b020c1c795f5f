"""Forked kernels behave as plain ones do, keep nothing of each other, and give way to plain ones where they must."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from jupyter_client import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

import runbook_kernels
from runbook_kernels import client, protocol, server, settings
from runbook_kernels.errors import ServerUnavailable, Unsuitable
from runbook_kernels.folder import Folder
from runbook_kernels.identity import ServerSpec, identify
from runbook_kernels.process import ForkedProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not runbook_kernels.supported(), reason="kernels are forked on Linux only"),
]

FORK, PLAIN = runbook_kernels.PROVISIONER, "local-provisioner"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runtime folder of the tests' own, so that no parent of somebody else's is used or ended."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(autouse=True)
def _own_parents(runtime: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("IPYTHONDIR", str(runtime / "ipython"))
    monkeypatch.setenv(settings.PRELOAD, "pandas,numpy.random,multiprocessing.process")
    monkeypatch.delenv(settings.KIND, raising=False)
    monkeypatch.delenv(settings.IDLE, raising=False)


@pytest.fixture(autouse=True, scope="module")
def _end_of_parents(runtime: Path) -> Iterator[None]:
    yield
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        runbook_kernels.stop()


@contextmanager
def chosen(name: str) -> Iterator[None]:
    """Let Jupyter start its kernels with this provisioner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", name)
        yield


class Kernel:
    """A kernel under test: what a cell prints, and the process behind it."""

    def __init__(self, provisioner: str = FORK, **launch: Any) -> None:
        # Without a name of its own the socket would lie in the current folder, which the kernel may not share.
        name = Path(os.environ["XDG_RUNTIME_DIR"]) / f"{uuid.uuid4().hex[:8]}.json"
        self.manager = KernelManager(transport="ipc", connection_file=str(name))
        with chosen(provisioner):
            self.manager.start_kernel(**launch)

    def __enter__(self) -> Kernel:
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    @property
    def process(self) -> Any:
        return self.manager.provisioner.process  # type: ignore[union-attr]

    def run(self, code: str) -> str:
        parts: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                parts.append(content["text"])
            elif message["msg_type"] == "error":
                parts.append(content["ename"])

        self.client.execute_interactive(code, output_hook=hook, timeout=30)
        return "".join(parts).strip()

    def json(self, code: str) -> Any:
        return json.loads(self.run(code))


def ends(pid: int, seconds: float = 5) -> bool:
    """Return whether a process ends in time; one that is dead and not reaped has ended."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


# The same as plain ------------------------------------------------------------------------------------------

NOTEBOOK = (
    "print('text')",
    "import sys; print('error', file=sys.stderr)",
    "import pandas; pandas.DataFrame({'a': [1, 2], 'b': ['x', 'y']})",
    "import os; os.system('echo from a subprocess; echo and its errors >&2')",
    "from IPython.display import Markdown, display; display(Markdown('**bold**'))",
    "%timeit -n1 -r1 -q -o pass\n!echo shell",
    "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    print(error)",
    "await __import__('asyncio').sleep(0, 'awaited')",
    "import subprocess; subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True).stdout",
    "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n    print(pool.map(abs, [-1, -2]))",
    "__name__, sys.argv[0].rpartition('/')[2], sys.path[0], len(sys.argv) > 1",
    "input('?')",
)


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_outputs_are_those_of_a_plain_kernel(transport: str, tmp_path: Path) -> None:
    """A notebook executed by stock papermill has the same outputs either way, over socket files and over TCP."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in NOTEBOOK])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    outputs = {}
    for name in (PLAIN, FORK):
        with chosen(name), pytest.raises(papermill.PapermillExecutionError, match="StdinNotImplementedError"):
            papermill.execute_notebook(
                tmp_path / "in.ipynb",
                tmp_path / f"{name}.ipynb",
                progress_bar=False,
                config=_transport(transport),
                cwd=tmp_path,
            )
        cells = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4).cells
        outputs[name] = [_readable(cell) for cell in cells if cell.cell_type == "code"]
    assert outputs[PLAIN] == outputs[FORK]
    assert sum(len(cell) for cell in outputs[FORK]) >= len(NOTEBOOK)


def _transport(name: str) -> Any:
    from traitlets.config import Config

    return Config({"KernelManager": {"transport": name}})


def _readable(cell: Any) -> list[Any]:
    streams: dict[str, str] = {}
    told: list[Any] = [streams]
    for output in cell.outputs:
        if output.output_type == "stream":
            streams[output.name] = streams.get(output.name, "") + output.text
        elif output.output_type == "error":
            told.append(output.ename)
        else:
            told.append(dict(output.data))
    return told


SURROUNDINGS = """
import json, os, signal, sys, threading
links = []
for n in os.listdir("/proc/self/fd"):
    try:
        links += [os.readlink(f"/proc/self/fd/{n}")] * (int(n) > 2)
    except FileNotFoundError:  # the listing itself
        continue
found = {
    "cwd": os.getcwd(), "umask": os.umask(0), "session": os.getsid(0) == os.getpid() == os.getpgid(0),
    "signals": {n.name: str(signal.getsignal(n)) for n in signal.valid_signals() if hasattr(n, "name")},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "environment": {k: v for k, v in os.environ.items() if k != "JPY_SESSION_NAME"},
    "streams": [os.path.realpath(f"/proc/self/fd/{n}").partition(":")[0] for n in (1, 2)],
    "python": [sys.executable, sys.prefix, sys.path, str(sys.flags), sys.warnoptions, str(sys._xoptions)],
    "descriptors": sorted(
        link.rstrip("0123456789]") for link in links if "pidfd" not in link
    ),
    "temp": __import__("tempfile").gettempdir(),
    "tty": __import__("time").tzname,
    "dead": sorted(t.name for t in threading.enumerate() if not t.is_alive()),
}
print(json.dumps(found))
"""


def test_surroundings_are_those_of_a_plain_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folder, umask, session, signals, environment, streams, path and open descriptors are as a new process has them."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("ODD", "a=b\nc \udcff é")
    mask = os.umask(0o027)
    try:
        found = {}
        for name in (PLAIN, FORK):
            with Kernel(name, cwd=str(tmp_path), extra_arguments=["--HistoryManager.enabled=False"]) as kernel:
                found[name] = kernel.json(SURROUNDINGS)
    finally:
        os.umask(mask)
    opened = {name: Counter(here.pop("descriptors")) for name, here in found.items()}
    assert not opened[FORK] - opened[PLAIN]
    assert found[PLAIN] == found[FORK]
    assert (str(tmp_path), 0o027) == (found[FORK]["cwd"], found[FORK]["umask"])


@pytest.mark.parametrize("ignored", [(signal.SIGHUP,), (signal.SIGUSR1, signal.SIGTERM)], ids=["nohup", "others"])
def test_what_the_parent_ignores_stays_ignored(ignored: tuple[signal.Signals, ...]) -> None:
    """As in a new process: after nohup, a kernel survives the end of the terminal too; the next one ignores nothing."""
    look = (
        "import json, signal; print(json.dumps(sorted(int(n) for n in signal.valid_signals() "
        "if signal.getsignal(n) is signal.SIG_IGN and n not in (signal.SIGPIPE, signal.SIGXFSZ))))"
    )
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        found = {}
        for name in (PLAIN, FORK):
            with Kernel(name) as kernel:
                found[name] = kernel.json(look)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert sorted(map(int, ignored)) == found[PLAIN] == found[FORK]
    with Kernel(FORK) as kernel:
        assert [] == kernel.json(look)


def test_an_interrupt_stops_the_cell_and_not_the_kernel() -> None:
    """SIGINT raises KeyboardInterrupt in the running cell; the kernel goes on, and so do others."""
    with Kernel() as kernel, Kernel() as other:
        # Else the kernel may still be refusing what was sent after the error when the next cell comes.
        kernel.client.execute("import time; print('begun', flush=True); time.sleep(60)", stop_on_error=False)
        while kernel.client.get_iopub_msg(timeout=10)["msg_type"] != "stream":
            continue
        kernel.manager.interrupt_kernel()
        reply = kernel.client.get_shell_msg(timeout=10)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert [kernel.run("print(1)"), other.run("print(2)")] == ["1", "2"]


def test_ends_are_told() -> None:
    """Exit status, killing signal, polite shutdown and restart are seen by the manager as those of its own child."""
    with Kernel() as kernel:
        process = kernel.process
        assert process.poll() is None
        kernel.client.execute("import os; os._exit(7)")
        assert process.wait(timeout=10) == 7
        assert not kernel.manager.is_alive()
        kernel.manager.restart_kernel(now=True)
        kernel.client.wait_for_ready(timeout=30)
        process, first = kernel.process, kernel.run("import os; print(os.getpid())")
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(timeout=10) == -signal.SIGKILL
        kernel.manager.restart_kernel(now=True)
        kernel.client.wait_for_ready(timeout=30)
        assert first != kernel.run("import os; print(os.getpid())")
        process = kernel.process
        kernel.manager.shutdown_kernel()
        assert process.returncode == 0


def test_a_kernel_ends_with_its_client() -> None:
    """A client that is killed leaves no kernel behind."""
    code = (
        "from jupyter_client import KernelManager; import os\n"
        "km = KernelManager(transport='ipc'); km.start_kernel(); print(km.provisioner.process.pid, flush=True)\n"
        "print(type(km.provisioner.process).__name__, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, **runbook_kernels.environment()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    pid, kind = done.stdout.split()
    assert kind == "ForkedProcess"
    assert ends(int(pid))


def test_a_polite_shutdown_is_quick() -> None:
    """The kernel answers the shutdown request and ends by itself: no waiting for SIGTERM, which is status -15."""
    for _ in range(8):
        with Kernel() as kernel:
            process = kernel.process
            kernel.manager.shutdown_kernel()
            assert process.returncode == 0


def test_a_kernel_ends_as_an_interpreter_does(tmp_path: Path) -> None:
    """Its threads are waited for, what was registered for the exit runs, what was written is flushed, garbage collected."""
    code = (
        "import atexit, gc, json, tempfile, threading, time\n"
        "gc.disable()\n"
        f"file = open({str(tmp_path / 'told')!r}, 'w')\n"
        "def late():\n"
        "    time.sleep(0.3); file.write('a thread; ')\n"
        "atexit.register(lambda: file.write('the exit'))\n"
        "threading.Thread(target=late).start()\n"
        "class Ring:\n"
        "    pass\n"
        "ring = Ring(); ring.ring = ring; ring.file = tempfile.NamedTemporaryFile(); print(ring.file.name); del ring\n"
        f"json.file = open({str(tmp_path / 'module')!r}, 'w'); json.file.write('a module')"
    )
    with Kernel() as kernel:
        temporary = kernel.run(code)
        process = kernel.process
        kernel.manager.shutdown_kernel()
        assert process.returncode == 0
    assert temporary.startswith("/")
    assert not Path(temporary).exists()
    assert (tmp_path / "told").read_text() == "a thread; the exit"
    assert (tmp_path / "module").read_text() == "a module"


def test_kernels_outlive_the_parent() -> None:
    """A parent that is killed takes no kernel with it; the next kernel gets a new parent."""
    with Kernel() as kernel:
        os.kill(int(kernel.run("import os; print(os.getppid())")), signal.SIGKILL)
        time.sleep(0.1)
        assert kernel.run("print(1)") == "1"
        with Kernel() as another:
            assert isinstance(another.process, ForkedProcess)
            process = another.process
        assert kernel.manager.is_alive()
        kernel.manager.shutdown_kernel()
        assert process.returncode is not None


# Apart from each other ---------------------------------------------------------------------------------------

RANDOM = """
import json, multiprocessing, numpy, os, random, secrets, ssl, tempfile, uuid
print(json.dumps([
    random.random(), numpy.random.rand(), int(numpy.random.default_rng().integers(2**60)), os.urandom(8).hex(),
    secrets.token_hex(8), ssl.RAND_bytes(8).hex(), str(uuid.uuid4()), str(uuid.uuid1()),
    next(tempfile._get_candidate_names()), bytes(multiprocessing.current_process().authkey).hex(),
]))
"""


def test_two_kernels_draw_different_random_numbers() -> None:
    """No generator repeats itself in a second kernel of the same parent."""
    with Kernel() as one, Kernel() as two:
        assert one.run("import os; print(os.getppid())") == two.run("import os; print(os.getppid())")
        first, second = one.json(RANDOM), two.json(RANDOM)
        assert not set(map(str, first)) & set(map(str, second))


def test_nothing_goes_over_from_one_kernel_to_the_next() -> None:
    """Variables, environment and changed modules of one notebook are unknown to the next."""
    with Kernel(env={**os.environ, "ONE": "1"}) as one:
        one.run("x = 1; import os, decimal; decimal.Decimal = None; os.environ['TWO'] = '2'")
        with Kernel() as two:
            found = two.run(
                "import os, decimal; print('x' in globals(), decimal.Decimal is None, *({'ONE', 'TWO'} & {*os.environ}))"
            )
    assert found == "False False"


def test_the_parent_holds_no_secret() -> None:
    """A requester's environment is neither in the parent's environment nor anywhere in its memory."""
    secret = "secret-" + os.urandom(16).hex()
    with Kernel(env={**os.environ, "AWS_SECRET_ACCESS_KEY": secret}) as kernel:
        assert kernel.run("import os; print(os.environ['AWS_SECRET_ACCESS_KEY'])") == secret
        parent = int(kernel.run("print(os.getppid())"))
        names = {entry.partition("=")[0] for entry in Path(f"/proc/{parent}/environ").read_text().split("\0")}
        assert not {name for name in names if name.startswith(("AWS_", "RUNBOOK_"))}
        assert not _memory_holds(parent, secret)
        assert _memory_holds(os.getpid(), secret)  # the search finds it where it is


def _memory_holds(pid: int, text: str) -> bool:
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            area, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            start, end = (int(number, 16) for number in area.split("-"))
            try:
                memory.seek(start)
                if text.encode() in memory.read(end - start):
                    return True
            except OSError:  # an area that cannot be read
                continue
    return False


def test_kernels_asked_for_at_once_share_one_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that find no parent at the same time start one between them."""
    monkeypatch.setenv(settings.PRELOAD, "decimal")
    spec = ServerSpec.of(os.environ)

    def launch(number: int) -> ForkedProcess:
        request = protocol.Request(["--version"], "/", dict(os.environ), 0o077, [], independent=False)
        with Path(os.devnull).open("w") as nowhere:
            return client.launch(spec, request, (nowhere.fileno(), nowhere.fileno()))

    with ThreadPoolExecutor(6) as pool:
        processes = list(pool.map(launch, range(6)))
    assert [process.wait(timeout=10) for process in processes] == [0] * 6
    with Folder.opened() as folder:
        assert [f"{identify(spec).name}.socket"] == [
            n for n in folder.names() if n.startswith(identify(spec).scope + "-")
        ]


# Parents come and go -------------------------------------------------------------------------------------------


def test_changed_code_gets_a_new_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel never runs older code than lies there; the parent with the older code ends."""
    package = tmp_path / "changing.py"
    package.write_text("VALUE = 'before'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(settings.PRELOAD, "changing")
    with Kernel() as kernel:
        assert kernel.run("import changing, os; print(changing.VALUE)") == "before"
        parent = int(kernel.run("print(os.getppid())"))
    package.write_text("VALUE = 'after, and longer'\n")
    with Kernel() as kernel:
        assert kernel.run("import changing, os; print(changing.VALUE)") == "after, and longer"
    assert ends(parent)


PARENT_OF_A_KERNEL = """
from jupyter_client import KernelManager
manager = KernelManager(kernel_name="python3")
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=30)
client.execute_interactive("import os; print(os.getppid())", timeout=30)
manager.shutdown_kernel(now=True)
"""


def test_a_change_in_any_package_gets_a_new_parent(tmp_path: Path) -> None:
    """A file of each of the four packages is changed in turn: the next kernel has a parent that was started after it."""
    packages = ("runbook_lib", "runbook_cli", "runbook_sandbox", "runbook_kernels")
    for name in packages:
        shutil.copytree(
            Path(__file__).parent.parent / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    more = {"PYTHONPATH": str(tmp_path), settings.PRELOAD: "runbook_lib.errors", **runbook_kernels.environment()}

    def parent() -> int:
        done = subprocess.run(
            [sys.executable, "-c", PARENT_OF_A_KERNEL], capture_output=True, text=True, cwd=tmp_path,
            env={**os.environ, **more}, check=False,
        )  # fmt: skip
        assert done.stdout.strip().isdigit(), done.stderr
        return int(done.stdout)

    parents = [parent()]
    assert parents == [parent()], "nothing was changed"
    for name in packages:
        file = max((tmp_path / name).rglob("*.py"))
        file.write_text(file.read_text() + "\n# changed\n")
        parents.append(parent())
        assert ends(parents[-2])
    assert len(packages) + 1 == len(set(parents))
    os.kill(parents[-1], signal.SIGTERM)


def test_an_idle_parent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent without kernels removes its socket and ends when its time is over."""
    monkeypatch.setenv(settings.IDLE, "0.2")
    monkeypatch.setenv(settings.PRELOAD, "")
    with Kernel() as kernel:
        time.sleep(0.5)
        parent = int(kernel.run("import os; print(os.getppid())"))
    assert ends(parent)
    name = identify(ServerSpec.of(os.environ)).name
    with Folder.opened() as folder:
        assert f"{name}.socket" not in folder.names()


# Giving way -----------------------------------------------------------------------------------------------------


def _kind(**launch: Any) -> str:
    kernel = Kernel(**launch)
    try:
        return type(kernel.process).__name__
    finally:
        kernel.manager.shutdown_kernel(now=True)


def test_kernels_are_forked_where_nothing_is_in_the_way() -> None:
    """The twin of what follows: without a reason against it the kernel is forked."""
    assert _kind() == "ForkedProcess"


def test_a_parent_can_be_started_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` returns at once; the kernel asked for afterwards comes from that parent."""
    monkeypatch.setenv(settings.PRELOAD, "fractions")
    thread = runbook_kernels.start()
    assert thread is not None
    thread.join(timeout=10)
    name = identify(ServerSpec.of(os.environ)).name
    with Folder.opened() as folder:
        assert f"{name}.socket" in folder.names()
    assert _kind() == "ForkedProcess"


def test_plain_when_opted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """RUNBOOK_KERNEL=plain starts a plain kernel, and asks for no provisioner."""
    assert runbook_kernels.environment() == {"JUPYTER_DEFAULT_PROVISIONER_NAME": "fork-server"}
    monkeypatch.setenv(settings.KIND, "plain")
    assert runbook_kernels.environment() == {}
    assert runbook_kernels.start() is None
    assert _kind() == "Popen"


def test_plain_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels cannot be forked they are started."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert not runbook_kernels.supported()
        assert runbook_kernels.environment() == {}
    monkeypatch.setattr(settings, "supported", lambda: False)
    assert _kind() == "Popen"


def test_plain_when_the_parent_cannot_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A parent that fails leaves its reason in the log, and the kernel is plain."""
    (tmp_path / "failing.py").write_text("raise ValueError('of its own')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(settings.PRELOAD, "failing")
    assert _kind() == "Popen"
    with Folder.opened() as folder:
        log = f"{identify(ServerSpec.of(os.environ)).scope}.log"
        assert "of its own" in Path(folder.address(log)).read_text()


def test_plain_when_the_folder_is_open_to_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A socket folder that others may enter, or that is a link to one, is not used."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "fork-kernel").mkdir(mode=0o755)
    assert _kind() == "Popen"
    (tmp_path / "fork-kernel").rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "fork-kernel").symlink_to(tmp_path / "elsewhere")
    assert _kind() == "Popen"


def test_plain_for_what_cannot_be_forked(tmp_path: Path) -> None:
    """A kernel that is no ipykernel of this interpreter, or needs a new process, is none of ours."""
    from runbook_kernels.launch_request import split_command

    launchers = ("ipykernel_launcher",)
    fit = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "x.json"]
    assert split_command(fit, launchers) == (("-Xfrozen_modules=off",), ["-f", "x.json"])
    for at, other in ((0, "/usr/bin/another-python"), (1, "-O"), (2, "-c"), (3, "xeus")):
        with pytest.raises(Unsuitable):
            split_command([*fit[:at], other, *fit[at + 1 :]], launchers)
    assert _kind(preexec_fn=None) == "Popen"


def test_a_stranger_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of another user gets no kernel, and a parent of another user is given no request."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    parent = server.Server(listener, descriptor, "s", 1.0)
    monkeypatch.setattr(protocol, "peer", lambda _: (os.getpid(), os.getuid() + 1))
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(tmp_path / "s"))
        stranger.sendall(protocol.FORK)
        assert parent._accept(listener) is None
        with pytest.raises(ConnectionResetError):  # hung up on, unread
            stranger.recv(1)
    with pytest.raises(ServerUnavailable, match="another user"):
        client._try(Folder(descriptor), "s")
    os.close(descriptor)
    listener.close()


def test_the_folder_is_the_users_alone() -> None:
    """Sockets, log and folder are closed to everybody else."""
    assert _kind() == "ForkedProcess"
    with Folder.opened() as folder:
        assert os.fstat(folder.descriptor).st_mode & 0o777 == 0o700
        assert {0o600} == {
            os.stat(name, dir_fd=folder.descriptor).st_mode & 0o777 for name in folder.names() if name.endswith(".log")
        }
