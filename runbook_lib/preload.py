"""What the parent of forked kernels loads: every module that a notebook imports, and botocore's service models."""

from __future__ import annotations

from importlib import import_module

import runbook_lib
from runbook_lib import tables
from runbook_lib.aws.session import Session
from runbook_lib.pages import pictures
from runbook_lib.run import steps

# The services that the steps call. The model of any other service is loaded when it is first used.
SERVICES = ("cloudtrail", "ec2", "iam", "kms", "rds", "secretsmanager", "sts")


def everything() -> None:
    """Import every public module and load the service models; no AWS call is made and no credentials are read."""
    for name in runbook_lib.__all__:
        getattr(runbook_lib, name)
    import_module("runbook_lib.aws.waiting")
    steps.all_steps()
    pictures.who_holds_which_key()
    tables.load_templates()
    session = Session(target="sandbox", region="eu-west-2", endpoint_url="http://127.0.0.1:9")
    for service in SERVICES:
        session.client(service)
