"""botocore for the sandbox: without any AWS configuration of this machine; its model files, read once; the Regions it knows."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

import botocore.loaders
import botocore.session

ISOLATED: Any = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


@cache
def loader(data_path: str | None) -> Any:
    """Return the process's shared loader, which caches the service models that it read."""
    return botocore.loaders.create_loader(data_path)


def is_region_name(region: str) -> bool:
    return bool(re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-\d", region))


def known_regions(service: str = "rds") -> list[str]:
    """Return the Regions of the partition `aws` that this SDK knows for `service`."""
    core = botocore.session.Session(session_vars=ISOLATED)
    core.register_component("data_loader", loader(core.get_config_variable("data_path")))
    return list(core.get_available_regions(service))
