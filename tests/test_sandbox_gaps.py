"""Each override closes a gap in moto: the sandbox answers as AWS does, plain moto does not.

The second half are canaries: when one passes against plain moto, a release of moto has closed the gap, and the
override that the test id names can be deleted.
"""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("moto_gaps", "moto_gaps_kms", "moto_gaps_rds", "moto_gaps_rds_life", "moto_gaps_watch")

import moto_gaps_iam as _iam  # noqa: E402,F401 - it fills the table
import moto_gaps_kms as _kms  # noqa: E402,F401
import moto_gaps_rds as _rds  # noqa: E402,F401
import moto_gaps_rds_life as _life  # noqa: E402,F401
import moto_gaps_watch as _watch  # noqa: E402,F401
from botocore.exceptions import ClientError  # noqa: E402
from botocore.parsers import ResponseParserError  # noqa: E402
from kms_support import connect, sandbox  # noqa: E402
from moto_gaps import GAPS, Gap, cases  # noqa: E402
from rds_support import Aws, raised_quotas  # noqa: E402

import runbook_sandbox  # noqa: E402

_PLAIN = """
import logging
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
input()
"""


@pytest.fixture(scope="module")
def ours() -> Iterator[Aws]:
    """The sandbox."""
    with sandbox() as url, raised_quotas():
        yield Aws(url)


@pytest.fixture(scope="module")
def plain() -> Iterator[Aws]:
    """Plain moto, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOTO_")}
    with subprocess.Popen(
        [sys.executable, "-c", _PLAIN], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        url = next(line.strip() for line in server.stdout if line.startswith("http://"))
        assert connect(url).list_keys()["Keys"] == []
        yield Aws(url)
        server.terminate()


@pytest.mark.parametrize("one", cases())
def test_the_sandbox_closes_the_gap(one: Gap, ours: Aws) -> None:
    """The sandbox answers as AWS documents, where moto does not."""
    one.check(ours)


_GAP = (AssertionError, ClientError, ResponseParserError, KeyError, pytest.fail.Exception)
_canary = pytest.mark.xfail(strict=True, raises=_GAP, reason="moto's gap")


@pytest.mark.parametrize("one", cases(_canary))
def test_moto_has_the_gap(one: Gap, plain: Aws) -> None:
    """Plain moto still answers differently; when this fails, delete the override that the test id names."""
    one.check(plain)


@pytest.mark.parametrize("override", sorted({one.override for one in GAPS}))
def test_the_override_exists(override: str) -> None:
    """Each override that a canary names exists."""
    assert callable(pkgutil.resolve_name(f"runbook_sandbox.{override}"))


def test_every_module_that_names_a_gap_has_a_canary() -> None:
    """Each module that overrides moto because of a gap has at least one canary."""
    folder = Path(runbook_sandbox.__file__).parent
    naming = [
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if "moto gap" in path.read_text(encoding="utf-8")
    ]
    assert [] == [name for name in naming if not any(one.override.startswith(f"{name}.") for one in GAPS)]


def test_the_import_operations_step_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """When moto has import operations of its own, ours are not installed; the key-state rules still are."""
    import moto.kms.urls
    from moto.kms.responses import KmsResponse

    from runbook_sandbox.kms import handler as kms_handler

    def handler() -> type:
        kms_handler.install()
        return moto.kms.urls.url_paths["{0}/$"].__self__

    monkeypatch.setattr(moto.kms.urls, "url_paths", {})
    assert handler() is kms_handler.WithImport
    monkeypatch.setattr(KmsResponse, "import_key_material", lambda self: "{}", raising=False)
    assert handler() is kms_handler.WithoutImport
    assert not issubclass(kms_handler.WithoutImport, kms_handler.ImportOperations)
    assert issubclass(kms_handler.WithoutImport, kms_handler.LifecycleOperations)
