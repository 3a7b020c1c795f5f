"""report.html alone: who verified, with what and how, what KMS says today, and what the report does not prove."""

from __future__ import annotations

import json
import re
import socket
from hashlib import sha256
from html import unescape

import boto3
import pytest

from runbook_lib.checks import Checks
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.pages.report import report_html
from runbook_lib.steps import report_facts, verify_encryption

NOTEBOOK = b'{"cells": []}'


@pytest.fixture
def verified(walk):
    """A verified run, with a notebook that was executed before."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0)])
    walk.bring_in()
    (walk.path / "notebooks" / "05_create_cluster.ipynb").write_bytes(NOTEBOOK)
    (walk.path / "notebooks" / "06_verify_encryption.ipynb").write_bytes(b"half written")
    return walk.cluster()


def verify_again(walk):
    step = walk.step("06")
    verify_encryption.apply(
        step, verify_encryption.plan(step, VerifyEncryptionInputs.check({"wait_timeout_minutes": 7}))
    )
    verify_encryption.verify(step)


def page(walk):
    """Return the page as a reader sees it: texts without tags."""
    return unescape(re.sub(r"<[^>]+>", " ", (walk.path / "report.html").read_text().replace("<wbr>", "")))


def report(walk):
    return json.loads((walk.path / "report.json").read_text())


def test_the_report_says_who_with_what_and_how(verified):
    """Caller, user, host, versions, parameters, SHA-256, request and event IDs: on the page, and for programs."""
    found, seen = report(verified), page(verified)
    caller = verified.client("sts").get_caller_identity()["Arn"]
    assert (caller, socket.gethostname()) == (found["who"]["caller_arn"], found["who"]["host"])
    assert boto3.__version__ == found["software"]["boto3"]
    for value in (*found["who"].values(), *found["software"].values()):
        assert value in seen
    custody = sha256((verified.path / "custody.json").read_bytes()).hexdigest()
    assert custody == found["sha256"]["custody.json"]
    assert sha256(NOTEBOOK).hexdigest() == found["sha256"]["notebooks/05_create_cluster.ipynb"]
    assert not [name for name in found["sha256"] if "06_verify" in name], "it is still being written"
    for value in found["sha256"].values():
        assert value in seen
    assert "RSA_2048" == found["parameters"]["02_get_parameters_for_import"]["wrapping_key_spec"]
    assert re.search(r"02_get_parameters_for_import\s+wrapping_key_spec\s+RSA_2048", seen)


def test_request_ids_are_those_that_aws_answered_with(verified):
    """One for each call that the evidence names as its source, and none of an earlier verification."""
    first = report(verified)
    verify_again(verified)
    found, seen = report(verified), page(verified)
    asked = {one["call"] for one in found["requests"]}
    sources = {one["source"] for one in found["checks"] if re.fullmatch(r"\w+:\w+", one["source"])}
    assert sources <= asked
    identifiers = [one["request_id"] for one in found["requests"]]
    assert all(identifiers)
    assert len(set(identifiers)) == len(identifiers)
    for value in identifiers:
        assert value in seen
    assert 2 == len(list((verified.path / "reports").glob("*.json"))), "within one second, too"
    assert not {one["request_id"] for one in first["requests"]} & set(identifiers)


def test_each_event_of_cloudtrail_has_its_id(verified):
    """With which somebody else finds the same event."""
    client = verified.client("cloudtrail")
    known = {event["EventId"] for event in client.lookup_events()["Events"]}
    recorded = [row["id"] for row in report(verified)["trail"] if row["outcome"] == "recorded"]
    assert recorded
    assert set(recorded) <= known
    assert all(identifier in page(verified) for identifier in recorded)
    assert "event ID" not in verify_encryption.show_cloudtrail(verified.step("06")).columns


def test_the_key_policy_is_the_one_that_kms_has_today(verified):
    """As reviewed in 01; after a change by somebody else, the page says so and shows the new one."""
    client = verified.client()
    document = json.loads(client.get_key_policy(KeyId=verified.key_id, PolicyName="default")["Policy"])
    assert (document, True) == (report(verified)["key_policy"], report(verified)["key_policy_unchanged"])
    assert "the policy is the one that was reviewed in step 01" in page(verified)
    added = {"Sid": "Added", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
             "Action": "kms:Decrypt", "Resource": "*"}  # fmt: skip
    document["Statement"].append(added)
    client.put_key_policy(KeyId=verified.key_id, PolicyName="default", Policy=json.dumps(document))
    verify_again(verified)
    assert (document, False) == (report(verified)["key_policy"], report(verified)["key_policy_unchanged"])
    assert "CHANGED since it was reviewed in step 01" in page(verified)
    assert '"Sid": "Added"' in page(verified)


def test_the_report_says_what_it_does_not_prove(verified):
    """Other users of the key, the data, and what this run left out."""
    lines = report(verified)["not_looked_at"]
    for word in ("simulation", "not opened", "runbook key-users", "IAM policies", "Snapshots", "private keys"):
        assert [line for line in lines if word in line], word
    assert all(line in page(verified) for line in lines)
    not_read = [{"outcome": "not read"}]
    assert [
        line for line in report_facts.not_looked_at(verified.run, trail=not_read, snapshot="s") if "CloudTrail" in line
    ]
    assert not [
        line for line in report_facts.not_looked_at(verified.run, trail=[], snapshot="s") if "CloudTrail" in line
    ]


def test_no_output_of_a_cell_names_user_or_host(verified):
    """Neither the checks nor the CloudTrail table: pages are committed, reports are not."""
    step = verified.step("06")
    shown = f"{verify_encryption.verify(step)!r}{verify_encryption.show_cloudtrail(step)!r}{step!r}"
    assert socket.gethostname() not in shown.split()
    assert "host" not in shown


# On paper -------------------------------------------------------------------------------------------------------------

FACTS = {"target_words": "AWS", "account_id": "1", "region": "r", "verified_at": "now", "verdict": "v",
         "db_cluster_identifier": "c", "summary": {}}  # fmt: skip


@pytest.mark.parametrize("run_id", ["demo-1", 'a"; } body { display: none', "</style><b>", "a\\", "a\nb"])
def test_the_footer_names_run_and_page_whatever_the_run_is_called(run_id):
    """A name stays inside its string of the style sheet."""
    style = report_html({**FACTS, "run_id": run_id}, Checks("x")).decode().split("<style>")[1].split("</style>")[0]
    content = re.findall(r'@bottom-left \{ content: "([^"]*)"', style)[0]
    assert re.fullmatch(r"[A-Za-z0-9 ,\\-]+", content)
    read = re.sub(r"\\([0-9a-f]{6})", lambda found: chr(int(found[1], 16)), content)
    assert read.startswith("Run demo-1," if run_id == "demo-1" else f"Run {run_id[:1]}")
    assert "counter(page)" in style
    assert re.search(r"@media print[^@]*tr[^{]*\{ break-inside: avoid", style)


def test_expected_and_actual_stand_whole_in_the_report():
    """On paper there is no title to point at."""
    arn = "arn:aws:kms:eu-west-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    checks = Checks("x")
    checks.equal("claim", arn, arn, source="kms:DescribeKey")
    assert 2 == report_html({**FACTS, "run_id": "demo"}, checks).decode().count(f">{arn}</td>")
