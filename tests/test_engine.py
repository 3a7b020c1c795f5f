"""The papermill engine and the kernels it uses: the same notebooks as papermill's own, and evidence after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from nbclient.exceptions import CellTimeoutError, DeadKernelError

import runbook_kernels
from runbook_kernels import engine, settings
from runbook_kernels.kernels import Kernels

pytestmark = pytest.mark.slow

CELLS = (
    "x = 1",
    "print('text')\nimport sys; print('error', file=sys.stderr)",
    "from IPython.display import HTML, Markdown, display; display(Markdown('**bold**'), HTML('<b>x</b>'))",
    "x + 1",
    "{'a': [x] * 3}",
)
WAYS = [pytest.param("", marks=pytest.mark.skipif(not runbook_kernels.supported(), reason="Linux only")), "plain"]


@pytest.fixture(autouse=True, params=WAYS, ids=["forked", "plain"])
def kernel(request: pytest.FixtureRequest, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every promise holds with forked and with plain kernels."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    monkeypatch.setenv(settings.PRELOAD, "")
    monkeypatch.setenv(settings.KIND, request.param)
    name = runbook_kernels.PROVISIONER if not request.param else "local-provisioner"
    monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", name)
    yield request.param
    runbook_kernels.stop()


def write(folder: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell("# Words"))
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "in.ipynb")
    return folder / "in.ipynb"


def execute(source: Path, output: Path, **more: Any) -> Any:
    return papermill.execute_notebook(source, output, progress_bar=False, **more)


def without_times(path: Path) -> Any:
    """Return a notebook without what differs from one execution to the next."""
    notebook = nbformat.read(path, as_version=4)
    for one in (notebook, *notebook.cells):
        for name in ("start_time", "end_time", "duration", "output_path"):
            one.metadata.get("papermill", {}).pop(name, None)
        if "execution" in one.metadata:
            one.metadata.execution = sorted(one.metadata.execution)
        one.pop("id", None)
    return notebook


def children(pid: int) -> set[int]:
    found = set()
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = stat_file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(rest[1]) == pid and rest[0] != "Z":
            found.add(int(stat_file.parent.name))
    return found


def test_its_notebooks_are_those_of_papermills_own_engine(tmp_path: Path) -> None:
    """Sources, outputs, counts, tags and papermill's records are equal, parameters injected."""
    source = write(tmp_path, *CELLS)
    execute(source, tmp_path / "stock.ipynb", parameters={"x": 7})
    execute(source, tmp_path / "ours.ipynb", parameters={"x": 7}, engine_name=runbook_kernels.PROVISIONER)
    assert without_times(tmp_path / "stock.ipynb") == without_times(tmp_path / "ours.ipynb")
    assert "8" == without_times(tmp_path / "ours.ipynb").cells[-2].outputs[0].data["text/plain"]


def test_a_failing_cell_fails_as_papermills_own_engine_has_it(tmp_path: Path) -> None:
    """The error is raised, the cell marked, what came before and the traceback kept, what follows not executed."""
    source = write(tmp_path, "x = 1", "1 / 0", "print('never')")
    for name, more in (("stock", {}), ("ours", {"engine_name": runbook_kernels.PROVISIONER})):
        with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
            execute(source, tmp_path / f"{name}.ipynb", **more)
    assert without_times(tmp_path / "stock.ipynb") == without_times(tmp_path / "ours.ipynb")


def test_papermills_own_options_work(tmp_path: Path) -> None:
    """A limit of time for each cell, given either way, ends a cell that takes longer."""
    source = write(tmp_path, "import time", "time.sleep(60)")
    for more in ({"execution_timeout": 1}, {"timeout": 1}, {"execution_timeout": 1, "timeout": 60}):
        with pytest.raises(CellTimeoutError):
            execute(source, tmp_path / "out.ipynb", engine_name=runbook_kernels.PROVISIONER, **more)


def test_it_is_registered_with_papermill() -> None:
    """`papermill --engine fork-server` finds it by its entry point."""
    (found,) = entry_points(group="papermill.engine", name=runbook_kernels.PROVISIONER)
    assert engine.ForkServerEngine is found.load()


def test_a_notebook_is_saved_before_each_code_cell_and_at_its_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One save for each code cell, none for the words between, one at the start and one at the end."""
    saved: list[list[str]] = []
    write_it = engine._write

    def note(path: Path, text: str) -> None:
        saved.append([cell["metadata"]["papermill"]["status"] for cell in json.loads(text)["cells"]])
        write_it(path, text)

    monkeypatch.setattr(engine, "_write", note)
    execute(write(tmp_path, "1", "2"), tmp_path / "out.ipynb", engine_name=runbook_kernels.PROVISIONER)
    p, r, c = "pending", "running", "completed"
    assert [[p, p, p], [r, p, p], [c, c, r], [c, c, c]] == saved


def test_a_kill_leaves_all_that_had_come_before(tmp_path: Path) -> None:
    """SIGKILL in the middle of a cell: the notebook on disk is whole, with every output until then."""
    source = write(
        tmp_path,
        "import os",
        "print('evidence')",
        "os.kill(int(os.environ['CLIENT']), 9)",
    )
    code = (
        "import os, papermill; os.environ['CLIENT'] = str(os.getpid())\n"
        f"papermill.execute_notebook('in.ipynb', 'out.ipynb', engine_name={runbook_kernels.PROVISIONER!r}, progress_bar=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=source.parent, capture_output=True, check=False)
    assert -signal.SIGKILL == done.returncode
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert ["completed", "completed", "completed", "running"] == [cell.metadata.papermill.status for cell in cells]
    assert "evidence\n" == cells[2].outputs[0].text
    assert ["in.ipynb", "out.ipynb"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_kernel_that_dies_is_noticed(tmp_path: Path) -> None:
    """A kernel that was killed ends the notebook with an error, not with a wait."""
    source = write(tmp_path, "import os", "os._exit(1)")
    with pytest.raises(DeadKernelError):
        execute(source, tmp_path / "out.ipynb", engine_name=runbook_kernels.PROVISIONER)


def test_sockets_lie_in_a_folder_of_ones_own_which_goes_in_the_end(tmp_path: Path) -> None:
    """No TCP port; sockets and keys in a folder that only its owner may enter; nothing is left."""
    source = write(tmp_path, "import os", "from ipykernel.kernelapp import IPKernelApp; app = IPKernelApp.instance()",
                   "print(app.transport, app.ip)")  # fmt: skip
    with Kernels() as kernels:
        done = execute(source, tmp_path / "out.ipynb", engine_name=runbook_kernels.PROVISIONER, kernels=kernels)
        transport, address = done.cells[-1].outputs[0].text.split()
        folder = Path(address).parent
        assert ("ipc", 0o700) == (transport, folder.stat().st_mode & 0o777)
    assert not folder.exists()


def test_a_long_temporary_folder_does_not_open_tcp_ports(tmp_path: Path, monkeypatch: Any) -> None:
    """Sockets need short paths: then their folder is made elsewhere, and no kernel listens where other users can connect."""
    long = tmp_path / ("d" * 100)
    long.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with Kernels() as kernels:
        manager = kernels._manager()
        assert "ipc" == manager.transport
        assert not manager.ip.startswith(str(long))
        assert 0o700 == Path(manager.ip).parent.stat().st_mode & 0o777


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path_factory: Any) -> None:
    """The sockets of a process that is gone go with the next one's; those of a living one stay."""
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    for pid in (gone.pid, os.getpid()):
        (runtime / f"kernels-{pid}-x").mkdir(mode=0o700)
    with Kernels():
        assert not (runtime / f"kernels-{gone.pid}-x").exists()
        assert (runtime / f"kernels-{os.getpid()}-x").exists()


def test_the_next_kernel_is_started_meanwhile_and_is_another(tmp_path: Path) -> None:
    """With `another` the kernel of the next notebook is there when it is asked for, fresh, in the same folder."""
    source = write(tmp_path, "import os", "print('y' in globals(), os.getpid(), os.getcwd())", "y = 1")
    told = []
    with Kernels() as kernels:
        for _ in range(2):
            done = execute(
                source, tmp_path / "o.ipynb", engine_name=runbook_kernels.PROVISIONER, kernels=kernels, another=True
            )
            assert kernels._next is not None
            told.append(done.cells[2].outputs[0].text.split())
    (known, first, here), (known_again, second, there) = told
    assert ("False", "False", here) == (known, known_again, there)
    assert first != second


def test_a_kernel_that_nobody_takes_is_ended(kernel: str) -> None:
    """Dropped, or left over at the end: no kernel stays."""
    with Kernels() as kernels:
        kernels.start_ahead()
        assert kernels._next is not None
        dropped = kernels._next.result().provisioner.process
        kernels.drop()
        assert dropped.wait(10) is not None
        kernels.start_ahead()
        assert kernels._next is not None
        left = kernels._next.result().provisioner.process
    assert left.poll() is not None
    assert ("Popen" if kernel else "ForkedProcess") == type(left).__name__


def test_kernels_end_politely_and_without_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel does at its end is done; an interrupt, which jupyter_client sends first, would be an error in its log."""
    before, sent = children(os.getpid()), []

    async def note(_: Any, signum: int) -> None:
        sent.append(signum)

    monkeypatch.setattr(LocalProvisioner, "send_signal", note)
    mark = tmp_path / "ended"
    source = write(tmp_path, "import atexit, pathlib", f"atexit.register(pathlib.Path({str(mark)!r}).touch)")
    execute(source, tmp_path / "out.ipynb", engine_name=runbook_kernels.PROVISIONER)
    assert mark.exists()
    assert signal.SIGINT not in sent
    limit = time.monotonic() + 5
    while children(os.getpid()) - before and time.monotonic() < limit:
        time.sleep(0.02)
    assert set() == children(os.getpid()) - before


@pytest.mark.parametrize(
    ("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)], ids=["022", "077", "002"]
)
def test_an_output_has_the_rights_of_a_new_file_and_keeps_those_it_has(
    tmp_path: Path, mask: int, expected: int
) -> None:
    """As papermill's own engine writes it, so that a report can be served; the runner's umask keeps its notebooks private."""
    before = os.umask(mask)
    try:
        engine._write(tmp_path / "out.ipynb", "{}")
        engine._write(tmp_path / "out.ipynb", "{ }")
        made = (tmp_path / "out.ipynb").stat().st_mode & 0o777
        (tmp_path / "out.ipynb").chmod(0o640)
        engine._write(tmp_path / "out.ipynb", "{  }")
    finally:
        os.umask(before)
    assert (expected, 0o640) == (made, (tmp_path / "out.ipynb").stat().st_mode & 0o777)
    assert ["out.ipynb"] == [one.name for one in tmp_path.iterdir()]
