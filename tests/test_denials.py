"""Denied, and by whom: one line that names the cause and who can change it, in the form that AWS documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook_lib.aws.answers import raise_for_answer
from runbook_lib.aws.session import Session
from runbook_lib.errors import AccessDenied, AwsCallFailed, CredentialsMissing, RunbookError

WHO = "User: arn:aws:sts::111122223333:assumed-role/night/x is not authorized to perform: kms:CreateKey on resource: *"

# The end of a message of the form in the IAM user guide, "Troubleshooting access denied error messages", and what is said.
MESSAGES = [
    ("because no service control policy allows the kms:CreateKey action", "service control policy", "organization"),
    ("with an explicit deny in a service control policy", "service control policy", "organization"),
    (
        "with an explicit deny in a service control policy: arn:aws:organizations::1:policy/o-1/p-1",
        "service control",
        "org",
    ),
    ("due to an explicit deny in a Service Control Policy", "service control policy", "organization"),
    ("with an explicit deny in a resource control policy", "resource control policy", "organization"),
    ("because no permissions boundary allows the kms:CreateKey action", "permissions boundary", "who set the boundary"),
    ("with an explicit deny in a permissions boundary", "permissions boundary", "who set the boundary"),
    ("because no session policy allows the kms:CreateKey action", "session policy", "assume the role without it"),
    ("with an explicit deny in a session policy", "session policy", "assume the role without it"),
    (
        "because no resource-based policy allows the kms:CreateKey action",
        "key policy",
        "an administrator of the resource",
    ),
    ("with an explicit deny in a resource-based policy", "key policy", "an administrator of the resource"),
    ("because no VPC endpoint policy allows the kms:CreateKey action", "VPC endpoint", "who manages the endpoint"),
    ("with an explicit deny in an identity-based policy", "a Deny in a policy of your role", "have the Deny changed"),
    (
        "because no identity-based policy allows the kms:CreateKey action",
        "allow kms:CreateKey for your role",
        "runbook perm",
    ),
    ("", "allow kms:CreateKey for your role", "runbook permissions"),
]


def refused(code: str, message: str, *, date: str = "") -> RunbookError:
    headers = {"date": date} if date else {}
    answer = {"Error": {"Code": code, "Message": message},
              "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": headers}}  # fmt: skip
    with pytest.raises(RunbookError) as caught:
        raise_for_answer(answer, "kms:CreateKey", retried=True)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("end", "cause", "way_out"), MESSAGES)
def test_a_denial_names_the_policy_and_who_can_change_it(end: str, cause: str, way_out: str) -> None:
    """Only where a permission of the role is missing does the line ask for one."""
    error = refused("AccessDeniedException", f"{WHO} {end}".strip())
    assert isinstance(error, AccessDenied)
    assert cause in str(error)
    assert way_out in str(error)
    assert ("allow kms:CreateKey for your role" in str(error)) == (cause.startswith("allow"))


@pytest.mark.parametrize(("code", "message"), [
    ("SignatureDoesNotMatch", "Signature expired: 20261126T100000Z is now earlier than 20261126T105500Z"),
    ("InvalidSignatureException", "Signature not yet current: 20261126T120000Z is still later than 20261126T110500Z"),
    ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
])  # fmt: skip
def test_a_wrong_clock_is_named(code: str, message: str) -> None:
    """With the time at AWS; another signature error is not the clock."""
    error = refused(code, message, date="Thu, 26 Nov 2026 11:00:00 GMT")
    assert isinstance(error, CredentialsMissing)
    assert "the clock of this machine is wrong: at AWS it is Thu, 26 Nov 2026 11:00:00 GMT; set it" in str(error)
    answer = {
        "Error": {"Code": "SignatureDoesNotMatch", "Message": "The request signature we calculated does not match"}
    }
    raise_for_answer(answer, "kms:CreateKey", retried=True)


def identity_with(monkeypatch: pytest.MonkeyPatch, folder: Path, config: str, **environment: str) -> RunbookError:
    """Return the error of a session on AWS with this configuration; nothing can be reached."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (folder / "config").write_text(config)
    for name, value in {"AWS_CONFIG_FILE": str(folder / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
                        "AWS_EC2_METADATA_DISABLED": "true", "RUNBOOK_ATTENDED": "0", **environment}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(RunbookError) as caught:
        Session(target="aws", region="eu-west-2").identity()
    assert "\n" not in str(caught.value)
    return caught.value


MFA = """
[profile source]
aws_access_key_id = AKIAEXAMPLE
aws_secret_access_key = example
[profile night]
role_arn = arn:aws:iam::111122223333:role/night
source_profile = source
mfa_serial = arn:aws:iam::111122223333:mfa/ann
"""


def test_an_mfa_code_that_nobody_can_type_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a prompt on a terminal that is not there."""
    error = identity_with(monkeypatch, tmp_path, MFA, AWS_PROFILE="night")
    assert isinstance(error, CredentialsMissing)
    assert "the profile needs an MFA code (mfa_serial), and nobody can type it here" in str(error)


@pytest.mark.parametrize(("config", "said"), [
    ("[profile night]\nrole_arn = arn:aws:iam::1:role/x\nweb_identity_token_file = /nowhere/token\n", "/nowhere/token"),
    ("[profile night]\ncredential_process = /nowhere/process\n", "/nowhere/process"),
    ("[profile night]\ncredential_process = echo []\n", "sign in"),
    ("[profile night]\ncredential_process = echo not-json\n", "sign in"),
    ("[profile night]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = nobody\n", "nobody"),
    ("[profile night]\nrole_arn = arn:aws:iam::1:role/x\ncredential_source = Nowhere\n", "Nowhere"),
    ("[profile night]\nrole_arn = arn:aws:iam::1:role/x\n", "sign in"),
    ("[profile night]\nsso_start_url = https://x\nsso_region = eu-west-2\nsso_account_id = 1\nsso_role_name = r\n", "sign in"),
    ("[profile night]\naws_access_key_id = AKIAEXAMPLE\n", "sign in"),
    ("[profile other]\n", "night"),
])  # fmt: skip
def test_whatever_a_credential_provider_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, said: str
) -> None:
    """Files, processes, answers and profiles that are not as they must be."""
    error = identity_with(monkeypatch, tmp_path, config, AWS_PROFILE="night")
    assert isinstance(error, CredentialsMissing)
    assert said in str(error)


def test_a_dead_proxy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS was not reached, so neither Region nor credentials are to blame."""
    error = identity_with(
        monkeypatch, tmp_path, "", AWS_ACCESS_KEY_ID="AKIAEXAMPLE", AWS_SECRET_ACCESS_KEY="x",  # noqa: S106
        HTTPS_PROXY="http://somebody:hunter2@127.0.0.1:9", AWS_MAX_ATTEMPTS="1",
    )  # fmt: skip
    assert isinstance(error, AwsCallFailed)
    assert "the proxy does not respond" in str(error)
    assert "correct HTTPS_PROXY" in str(error)
    assert "hunter2" not in str(error)
