"""The runbook walked by a person without luck: what a page shows is this run, and nothing chosen is lost.

A kernel is restarted, a tab is closed during an apply, cells are run out of order, the Region is changed after a first
reading, and a second run is begun on the same pages. One JupyterLab for the module; the tests build on each other, in order.
"""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest

pytest.importorskip("playwright", reason="the browser suite is part of the extra dev")
from browser import ROOT, Server, Tab, chromium, is_installed

from runbook_lib.aws import sandbox_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.in_order,
    pytest.mark.skipif(not is_installed(), reason="no chromium on this machine"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`runbook lab`, with a runs folder and a Jupyter of its own."""
    server = Server(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def walk(server, browser):
    """The tab that walks, opened on the start page."""
    tab = Tab(browser.new_page(viewport={"width": 1280, "height": 1000}), server)
    tab.open_start()
    return tab


@pytest.fixture(scope="module", autouse=True)
def checkout():
    """Whatever is walked, `git status` says at the end what it said at the beginning."""

    def status():
        return subprocess.run(
            ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    before = status()
    yield
    assert status() == before


def state(server, run="demo"):
    """Return a run's state.json."""
    return json.loads((server.runs / run / "state.json").read_text())


def calls(server):
    """Return the operations that the sandbox was asked for, in order."""
    found = sandbox_process.call(sandbox_process.find(server.runs).url, "/runbook/calls?since=0", method="GET")
    return [call["operation"] for call in found["calls"]]


def wait_until(holds, what):
    """Wait for what a file says."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def open_step(walk, name):
    """Open a notebook by its link, from whatever page is open."""
    walk.follow(name)
    walk.wait_for_notebook(name.replace(" ", "_"))


def test_after_a_region_changed_too_late_nothing_below_goes_on(walk, server):
    """00 is applied in one Region, another is chosen: the reading fails, and plan and apply refuse in one line each."""
    open_step(walk, "00 start")
    walk.go_on_to("start.apply(step")
    assert "00_start" in state(server)["steps"]
    walk.fill("Region", "us-east-1")
    walk.see("1 value differs from the parameters.")
    read = walk.run("asked = form.value")
    assert "ParameterChanged" in walk.output(read)
    before = state(server)
    for cell in ("plan = start.plan", "start.apply(step", "start.verify(step"):
        shown = walk.output(walk.run(cell))
        assert "CellsNotRun" in shown, shown
        assert "checks passed" not in shown
        assert "Traceback" not in shown
    assert state(server) == before
    walk.fill("Region", "eu-west-2")
    walk.page.wait_for_function(GONE, arg="1 value differs")
    for cell in ("asked = form.value", "plan = start.plan", "start.apply(step", "start.verify(step"):
        shown = walk.output(walk.run(cell))
    assert "checks passed" in shown


def test_cells_out_of_order_say_in_one_line_which_to_run(walk, server):
    """The apply of 01 first of all: no traceback, no key."""
    open_step(walk, "01 create key")
    shown = walk.output(walk.run("create_key.apply"))
    assert shown.startswith("CellsNotRun: ")
    assert "run the cells above in order" in shown
    assert "Traceback" not in shown
    assert "CreateKey" not in calls(server)
    walk.go_on_to("create_key.verify")


def test_a_new_kernel_under_an_old_page_says_so_and_keeps_what_was_chosen(walk, server):
    """An expiry is chosen and read, the kernel restarted: the form is not called valid, and Run All imports with the expiry."""
    open_step(walk, "02 get parameters for import")
    walk.go_on_to("get_parameters_for_import.verify")
    open_step(walk, "03 encrypt key material")
    walk.go_on_to("encrypt_key_material.verify")
    open_step(walk, "04 import key material")
    walk.go_on_to("form = step.form")
    walk.field("Expiration").select_option("KEY_MATERIAL_EXPIRES")
    moment = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 90 * 86_400))
    walk.field("Expires at").fill(moment)
    walk.see("All values are valid")
    walk.go_on_to("asked = form.value")
    walk.restart_kernel()
    walk.see("Not connected: the kernel of this page was restarted.")
    assert not walk.is_shown("All values are valid")
    walk.run_all()
    record = state(server)["steps"]["04_import_key_material"]["record"]
    assert record["valid_to"].startswith(moment[:13])
    walk.see("All values are valid")
    assert not walk.is_shown("Not connected")


def test_a_tab_that_was_closed_during_apply_comes_back_to_its_own_run(walk, server):
    """05 goes on without the tab; opened again, the page shows no stored outputs, and one cluster is there."""
    open_step(walk, "05 create cluster")
    walk.go_on_to("plan = create_cluster.plan")
    walk.run("create_cluster.apply", wait=False)
    wait_until(lambda: "05_create_cluster" in state(server)["steps"], "the apply begins")
    walk.close()
    wait_until(lambda: "CreateDBInstance" in calls(server), "the apply goes on without its tab")
    walk.open_start()
    open_step(walk, "05 create cluster")
    plan = walk.go_on_to("plan = create_cluster.plan")
    assert "to create" not in walk.output(plan)
    walk.go_on_to("create_cluster.verify")
    assert 1 == calls(server).count("CreateDBCluster")


def test_a_second_run_is_the_one_that_its_links_lead_to(walk, server):
    """Begun in the Run field of 00, in another Region: 01 by its link works on it, says so, and leaves the first alone."""
    first = state(server)
    walk.end_kernels()
    walk.open_start()
    open_step(walk, "00 start")
    walk.go_on_to("form = start.form")
    walk.fill("Run", "second")
    walk.fill("Region", "eu-central-1")
    walk.see("2 values differ from the parameters.")
    walk.go_on_to("pictures.where_it_stands")
    open_step(walk, "01 create key")
    opened = walk.go_on_to("step = open_step")
    assert "second" in walk.output(opened)
    assert "eu-central-1" in walk.output(opened)
    walk.go_on_to("create_key.apply")
    assert ":eu-central-1:" in json.dumps(state(server, "second")["steps"]["01_create_key"]["record"])
    assert state(server) == first
    start_page = server.runs / "START.md"
    wait_until(lambda: "Continue run `second`" in start_page.read_text(), "the start page leads on in the second run")


GONE = "words => !document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)').innerText.includes(words)"


# In each kernel of a lab for target aws, AWS's answers come from a sandbox, and each operation is written down.
RECORDER = """
import os, re, urllib.parse
import botocore.httpsession
send = botocore.httpsession.URLLib3Session.send
def answered_by_the_sandbox(self, request):
    parts = urllib.parse.urlsplit(request.url)
    body = request.body if isinstance(request.body, str) else (request.body or b"").decode()
    named = request.headers.get("X-Amz-Target") or re.findall("Action=([A-Za-z]+)", body)[0]
    named = named.decode() if isinstance(named, bytes) else named
    with open(os.environ["RECORDED_CALLS"], "a") as file:
        file.write(parts.netloc + " " + named.rpartition(".")[2] + chr(10))
    request.url = os.environ["ANSWERING_SANDBOX"] + parts.path + ("?" + parts.query if parts.query else "")
    return send(self, request)
botocore.httpsession.URLLib3Session.send = answered_by_the_sandbox
"""


def test_with_target_aws_run_all_creates_nothing_before_somebody_ticked_the_plan(browser, shared_world, tmp_path):
    """Run All on 01 stops at its apply, in one line; after the tick the same cell creates the key, once."""
    recorded = tmp_path / "calls"
    recorded.touch()
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-recorder.py").write_text(RECORDER)
    server = Server(
        tmp_path, "--target", "aws", RECORDED_CALLS=str(recorded), ANSWERING_SANDBOX=shared_world.sandbox.url,
        AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY="no-secret", RUNBOOK_SANDBOX_ENDPOINT="",  # noqa: S106
    )  # fmt: skip

    def created():
        return [
            line for line in recorded.read_text().splitlines() if re.search(" (Create|Put|Tag|Import|Delete)", line)
        ]

    try:
        tab = Tab(browser.new_page(viewport={"width": 1280, "height": 1000}), server)
        tab.open_start()
        open_step(tab, "00 start")
        tab.go_on_to("form = start.form")
        assert "aws" == tab.field("Target").input_value()
        tab.fill("Account", "123456789012")
        tab.see(re.compile("values? differs? from the parameters"))
        assert "checks passed" in tab.output(tab.go_on_to("start.verify(step"))
        open_step(tab, "01 create key")
        tab.run_all()
        apply = tab.cell("create_key.apply")
        assert "PlanNotConfirmed" in tab.output(apply)
        assert "Traceback" not in tab.output(apply)
        assert "GetCallerIdentity" in recorded.read_text()
        assert [] == created()
        tab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").get_by_label("I have read this plan").check()
        tab.page.wait_for_function(IDLE)
        tab.run("create_key.apply")
        assert 1 == sum(line == "kms.eu-west-2.amazonaws.com CreateKey" for line in created()), created()
    finally:
        server.stop()


IDLE = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
