"""The runbook walked in a real browser, by keyboard and forms, from the start page to the report and back the next day.

One JupyterLab and one run for the whole module; the tests build on each other, in order.
"""

from __future__ import annotations

import json
import re
import time

import pytest

pytest.importorskip("playwright", reason="the browser suite is part of the extra dev")
from browser import Server, Tab, chromium, is_installed

from runbook_cli.lab import copies
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
def page(server):
    """One window for the whole walk."""
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 1000})


@pytest.fixture(scope="module")
def walk(server, page):
    """The tab that walks, opened on the start page."""
    tab = Tab(page, server)
    tab.open_start()
    return tab


@pytest.fixture(autouse=True)
def calm(walk):
    """After each test: nothing red in the console, and no request that left this machine."""
    yield
    assert [] == walk.complaints
    assert [] == walk.strangers


def sandbox(server, path, body=None, method="POST"):
    """Ask the server's sandbox one of its own questions."""
    return sandbox_process.call(sandbox_process.find(server.runs).url, path, body=body, method=method)


def state(server):
    """Return the run's state.json."""
    return json.loads((server.runs / "demo" / "state.json").read_text())


def test_the_start_page_says_what_this_is_and_where_to_begin(walk):
    """Rendered, calm, the steps as a map; its links work; no pop-up asks for news."""
    text = walk.page.locator(".jp-RenderedMarkdown").first.inner_text()
    assert "Encrypt Amazon Aurora with your own key material (BYOK)" in text
    assert "SANDBOX." in text
    assert "Start with 00 start" in text
    assert all(number in text for number in ("01 create key", "06 verify encryption", "90 clean up"))
    assert 0 == walk.page.locator(".Toastify__toast, .jp-Dialog").count()
    walk.follow("00 start")
    walk.wait_for_notebook("00_start")


def test_00_starts_the_run_with_a_text_and_a_number_that_were_typed(walk, server):
    """The form is used by keyboard alone, and the plan names what was changed."""
    walk.go_on_to("form = start.form")
    walk.fill("DB cluster identifier", "orders")
    walk.fill("Readers", "1")
    walk.see("2 values differ from the parameters.")
    plan = walk.go_on_to("plan = start.plan")
    shown = walk.output(plan)
    assert "Changed in the form: db_cluster_identifier: aurora-byok → orders" in shown
    assert "Changed in the form: reader_count: 0 → 1" in shown
    assert "orders-2" in shown
    walk.go_on_to("pictures.where_it_stands")
    assert "orders" == state(server)["steps"]["00_start"]["inputs"]["db_cluster_identifier"]
    walk.see(re.compile(r"(\d+) of \1 checks passed"))


def test_tab_reaches_the_fields_in_the_order_in_which_they_are_read(walk):
    """From the first field of 01's form, Tab goes down the page; every field has its label."""
    walk.follow("01 create key")
    walk.wait_for_notebook("01_create_key")
    walk.go_on_to("form = step.form")
    walk.see("All values are valid")
    walk.see("to choose from")
    walk.field("Alias").focus()
    labels = ["Alias", "Description", "Key administrators", "Key users"]
    for label in labels:
        assert walk.field(label).evaluate("element => element === document.activeElement"), label
        walk.page.keyboard.press("Tab")


def test_a_wrong_value_is_told_beside_its_field_and_stops_the_next_cell(walk, server):
    """While typing; the cell that reads the form fails in one line; nothing was called for it."""
    walk.fill("Alias", "orders")
    walk.see("write 'alias/orders'")
    walk.see("1 value is not valid")
    read = walk.run("asked = form.value")
    assert "InputError: key_alias: 'orders' does not begin with 'alias/'" in walk.output(read)
    assert "Traceback" not in walk.output(read)
    walk.fill("Alias", "alias/orders")
    walk.see("All values are valid")


def test_an_apply_stops_when_the_form_says_something_else_than_the_plan(walk, server):
    """The plan of a valid form, then a wrong value: apply refuses in one line, and no key is made."""
    walk.go_on_to("plan = create_key.plan")
    walk.fill("Alias", "wrong")
    apply = walk.run("create_key.apply")
    assert "PlanOutdated: nothing was changed: the form was edited after this plan" in walk.output(apply)
    assert "01_create_key" not in state(server)["steps"]
    walk.fill("Alias", "alias/orders")


def test_01_makes_the_key_with_a_switch_thrown(walk, server):
    """The policy is reviewed with the change in it, the plan names it, the picture shows where key and run stand."""
    switch = walk.field("Administrators may delete the key")
    for _ in range(3):  # a page that is still settling may take the focus away with the first key
        switch.press("Space")
        if not switch.is_checked():
            break
    assert not switch.is_checked()
    walk.run("asked = form.value")
    plan = walk.run("plan = create_key.plan")
    assert "Changed in the form: allow_key_deletion: true → false" in walk.output(plan)
    assert "Changed in the form: key_alias: alias/aurora-byok → alias/orders" in walk.output(plan)
    verify = walk.go_on_to("create_key.verify")
    assert re.search(r"(\d+) of \1 checks passed", walk.output(verify)), walk.output(verify)
    picture = walk.go_on_to("pictures.where_it_stands")
    assert ["image/png" in output["data"] for output in walk.outputs(picture)] == [True]
    assert "PendingImport" in walk.outputs(picture)[0]["data"]["text/plain"]


def test_an_exercise_is_predicted_first_and_then_seen(walk):
    """Nothing is called until the answer is locked in; run again, AWS's error and the reason for each choice are shown."""
    cell = walk.go_on_to("try_it(step")
    panel = walk.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    assert "MalformedPolicyDocumentException" not in walk.output(cell)
    panel.get_by_label("a the key is created without that statement").check()
    panel.get_by_role("button", name="Lock in").click()
    walk.see("a is locked in.")
    walk.run("try_it(step")
    assert "You said a: that is not right." in walk.output(cell)
    assert "MalformedPolicyDocumentException" in walk.output(cell)


def test_a_task_shows_its_names_a_hint_and_what_is_missing(walk):
    """The scene is prepared when its cell runs; the button shows a hint, and the check names what the account lacks."""
    walk.go_on_to("work = task(step")
    walk.see("the policy that KMS gives to every key")
    panel = walk.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    panel.get_by_role("button", name="Show a hint").click()
    walk.see("Hint 1 of 3")
    check = walk.go_on_to("work.check()")
    assert "Not yet: nobody uses it directly (kms:Decrypt), and 5 more, below" in walk.output(check)
    assert "hints used: 1 of 3" in walk.output(check)
    walk.go_on_to("pictures.where_it_stands")


def test_02_takes_a_choice_and_03_makes_the_material(walk, server):
    """A choice by keyboard; the key material itself is nowhere on the page."""
    walk.follow("02 get parameters for import")
    walk.wait_for_notebook("02_get_parameters_for_import")
    walk.go_on_to("form = step.form")
    walk.field("Wrapping key spec").select_option("RSA_2048")
    plan = walk.go_on_to("plan = get_parameters_for_import.plan")
    assert "Changed in the form: wrapping_key_spec: RSA_4096 → RSA_2048" in walk.output(plan)
    walk.go_on_to("pictures.where_it_stands")
    walk.follow("03 encrypt key material")
    walk.wait_for_notebook("03_encrypt_key_material")
    walk.go_on_to("pictures.where_it_stands")
    assert 256 == (server.runs / "demo" / "EncryptedKeyMaterial.bin").stat().st_size


def test_04_imports_with_an_expiry_from_the_calendar(walk, server):
    """A date and time, kept in UTC, named by the plan."""
    walk.follow("04 import key material")
    walk.wait_for_notebook("04_import_key_material")
    walk.go_on_to("form = step.form")
    walk.field("Expiration").select_option("KEY_MATERIAL_EXPIRES")
    walk.see("with KEY_MATERIAL_EXPIRES; write the time")
    moment = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 100 * 86_400))
    walk.field("Expires at").fill(moment)
    walk.see("In UTC: ")
    plan = walk.go_on_to("plan = import_key_material.plan")
    assert "Changed in the form: expiration_model:" in walk.output(plan)
    assert f"Changed in the form: valid_to: (empty) → {moment}" in walk.output(plan)
    walk.go_on_to("pictures.where_it_stands")
    assert state(server)["steps"]["04_import_key_material"]["record"]["valid_to"].startswith(moment[:13])


def test_05_begins_with_what_00_checked_and_takes_several_choices(walk, server):
    """Nobody types the cluster's name twice; logs are chosen by keyboard; versions are offered by the account."""
    sandbox(server, "/runbook/progression", {"mode": "seconds", "seconds": 600})
    walk.follow("05 create cluster")
    walk.wait_for_notebook("05_create_cluster")
    walk.go_on_to("form = step.form")
    assert "orders" == walk.field("DB cluster identifier").input_value()
    walk.see("As checked by step 00; the parameter is")
    walk.page.wait_for_function(
        "() => document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) datalist option').length > 5"
    )
    walk.field("Log exports").select_option(["audit", "error"])
    plan = walk.go_on_to("plan = create_cluster.plan")
    shown = walk.output(plan)
    assert "As checked by step 00: db_cluster_identifier: aurora-byok → orders" in shown
    assert 'Changed in the form: enable_cloudwatch_logs_exports: [] → ["audit", "error"]' in shown
    walk.go_on_to("pictures.where_it_stands")


def test_the_wait_of_06_is_interrupted_without_harm_and_goes_on(walk, server):
    """I, I: the block says interrupted, one line says how to go on; the cell run again finishes."""
    walk.follow("06 verify encryption")
    walk.wait_for_notebook("06_verify_encryption")
    walk.go_on_to("plan = verify_encryption.plan")
    apply = walk.run("verify_encryption.apply", wait=False)
    walk.see("… waiting · cluster orders")
    walk.see("… creating")
    walk.press_in(apply, "i", "i")
    walk.wait_for_end(apply)
    shown = walk.output(apply)
    assert "■ interrupted · cluster orders" in shown
    assert "WaitInterrupted: you interrupted the wait" in shown
    assert "Traceback" not in shown
    sandbox(server, "/runbook/progression", {"mode": "immediate"})
    walk.run("verify_encryption.apply")
    assert "✓ done" in walk.output(apply)
    verify = walk.go_on_to("verify_encryption.verify(step)")
    assert re.search(r"(\d+) of \1 checks passed", walk.output(verify))
    walk.go_on_to("pictures.where_it_stands")
    walk.save()
    report = json.loads((server.runs / "demo" / "report.json").read_text())
    assert report["verified"]


def test_the_dark_theme_is_readable(walk):
    """Every text in every output has a contrast of at least 4 to 1 with what is behind it."""
    walk.change_theme("JupyterLab Dark")
    poor = walk.page.evaluate(CONTRAST)
    walk.change_theme("JupyterLab Light")
    assert [] == poor
    assert [] == walk.page.evaluate(CONTRAST)


def outside(tab):
    """Narrow the window to 1000 pixels; return the texts of the evidence that reach out of the page, and how many fit."""
    tab.page.set_viewport_size({"width": 1000, "height": 1000})
    tab.page.wait_for_function(
        "() => document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)').clientWidth < 1000"
    )
    try:
        found = tab.page.evaluate(OUTSIDE)
    finally:
        tab.page.set_viewport_size({"width": 1280, "height": 1000})
    return found["outside"], found["inside"]


def test_the_evidence_fits_a_page_of_1000_pixels(walk):
    """Every cell of the table, the last column included, is inside the page, and no text is wider than its cell."""
    wide, fitting = outside(walk)
    assert [] == wide
    assert fitting > 50


@pytest.mark.parametrize("name", ["01_create_key", "06_verify_encryption"])
def test_the_walk_is_kept_in_its_run_and_reads_as_evidence_without_a_kernel(walk, server, name):
    """Form, plan, values used, checks and pictures are in the run's notebook; the page that all runs share stores nothing."""
    walk.command("docmanager:open", {"path": f"_notebooks/{name}.ipynb"})
    walk.wait_for_notebook(name)
    walk.save()
    assert not copies.has_outputs(json.loads((server.runs / "_notebooks" / f"{name}.ipynb").read_text()))
    path = server.runs / "demo" / "notebooks" / f"{name}.ipynb"
    assert "vnd.jupyter.widget" not in path.read_text()
    assert 0o600 == path.stat().st_mode & 0o777
    without = {"shouldStart": False, "shouldReuse": False}
    walk.command("docmanager:open", {"path": f"demo/notebooks/{name}.ipynb", "kernelPreference": without})
    walk.wait_for_page(f"demo/notebooks/{name}")
    walk.see("Choices: starting values")
    walk.see("All values of this step")
    walk.see(re.compile(r"(\d+) of \1 checks passed"))
    assert walk.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session === null")
    assert not walk.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets.some(cell => cell.model.trusted)"
    )
    wide, fitting = outside(walk)
    assert [] == wide
    assert fitting > 30
    text = walk.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook").inner_text()
    assert "arn:aws:kms:eu-west-2:123456789012:key/" in text
    assert "widget..." not in text
    assert "Error displaying widget" not in text


def test_the_start_page_shows_what_was_done_and_what_is_left(walk, server):
    """Read again the next day: the steps are done, the evidence is linked."""
    deadline = time.monotonic() + 20
    while "Run `demo` is finished" not in (server.runs / "START.md").read_text():
        assert time.monotonic() < deadline, "the page is written within a second of the last step"
    walk.end_kernels()
    walk.open_start()
    text = walk.page.locator(".jp-RenderedMarkdown:visible").first.inner_text()
    assert 7 == text.count("✓ done")
    assert "Run demo is finished" in text


def test_a_notebook_opened_again_says_what_is_done_and_keeps_it(walk, server):
    """The next day, another kernel: 05 starts from what was applied, plans to keep all of it, and changes nothing."""
    before = state(server)["steps"]["05_create_cluster"]["record"]
    walk.follow("05 create cluster")
    walk.wait_for_notebook("05_create_cluster")
    opened = walk.go_on_to("step = open_step")
    assert "Finished " in walk.output(opened)
    plan = walk.go_on_to("plan = create_cluster.plan")
    assert "As applied before: enable_cloudwatch_logs_exports" in walk.output(plan)
    assert "to create" not in walk.output(plan)
    walk.go_on_to("create_cluster.apply")
    assert before == state(server)["steps"]["05_create_cluster"]["record"]


def test_20_rotates_to_new_material_with_backups_of_its_own(walk, server):
    """The plan names every change; the old material stays, and the picture shows 20 as done."""
    walk.follow("20 rotate key material")
    walk.wait_for_notebook("20_rotate_key_material")
    plan = walk.go_on_to("plan = rotate_key_material.plan")
    assert "0 of 25 used" in walk.output(plan)
    verify = walk.go_on_to("rotate_key_material.verify")
    assert re.search(r"(\d+) of \1 checks passed", walk.output(verify)), walk.output(verify)
    walk.go_on_to("pictures.where_it_stands")
    assert 1 == len(list((server.runs / "demo" / "materials").iterdir()))


def test_21_watches_the_key_and_the_alarm_comes_when_the_clock_is_moved(walk, server):
    """A topic that is none is told beside its field; the plan says what is deaf; the evidence fits the page."""
    walk.follow("21 watch key")
    walk.wait_for_notebook("21_watch_key")
    walk.go_on_to("form = step.form")
    walk.fill("SNS topic", "security")
    walk.see("is not the ARN of a standard topic")
    for key in ("Control+a", "Delete"):
        walk.field("SNS topic").press(key)
    walk.see("All values are valid")
    plan = walk.go_on_to("plan = watch_key.plan")
    assert "the rules 'changed' and 'in use' would hear nothing" in walk.output(plan)
    verify = walk.go_on_to("watch_key.verify")
    assert re.search(r"(\d+) of \1 checks passed", walk.output(verify)), walk.output(verify)
    wide, fitting = outside(walk)
    assert [] == wide
    assert fitting > 20
    walk.go_on_to("pictures.where_it_stands")
    sandbox(server, "/runbook/clock", {"advance_seconds": 95 * 86_400})
    subjects = [one["subject"] for one in sandbox(server, "/runbook/messages", method="GET")["messages"]]
    assert ["Test", "ALARM", "ALARM"] == [subject.partition(":")[0] for subject in subjects]


# Which cells of tables of evidence reach out of the notebook's window, or have text wider than themselves.
OUTSIDE = """() => {
    const panel = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)');
    const edge = panel.getBoundingClientRect().right, outside = []; let inside = 0;
    for (const table of panel.querySelectorAll('.jp-OutputArea-output table')) {
        const heads = [...table.querySelectorAll('th')].map(head => head.innerText);
        if (!heads.includes('actual')) continue;
        for (const cell of table.querySelectorAll('th, td')) {
            const box = cell.getBoundingClientRect();
            if (box.right > edge || box.width < 20 || cell.scrollWidth > cell.clientWidth + 1) outside.push(cell.innerText);
            else inside += 1;
        }
    }
    return {outside, inside};
}"""

# Contrast of each text with the first opaque background behind it, by WCAG's formula; pictures are not text.
CONTRAST = """() => {
    const light = rgb => { const [r, g, b] = rgb.map(v => v / 255).map(v =>
        v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const behind = node => { for (; node; node = node.parentElement) {
        const c = parts(getComputedStyle(node).backgroundColor); if (c.length === 3 || c[3] > 0.9) return c.slice(0, 3); }
        return [255, 255, 255]; };
    const poor = [];
    for (const area of document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea-output')) {
        const texts = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
        for (let text = texts.nextNode(); text; text = texts.nextNode()) {
            const node = text.parentElement;
            if (!text.data.trim() || node.closest('style, script, datalist') || !node.getClientRects().length) continue;
            let opacity = 1; for (let n = node; n; n = n.parentElement) opacity *= Number(getComputedStyle(n).opacity);
            const back = behind(node), front = parts(getComputedStyle(node).color).slice(0, 3)
                .map((v, i) => v * opacity + back[i] * (1 - opacity));
            const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            if (ratio < 4) poor.push(`${text.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
        }
    }
    return poor;
}"""
