"""Who denied a call, and who can change it: read from AWS's own words.

Source: the IAM user guide, "Troubleshoot access denied error messages" (explicit and implicit denials by type of policy).
"""

from __future__ import annotations

import re

# What AWS names in the message, what it is, and who can change it. The first that is named counts.
_BY: tuple[tuple[str, str, str], ...] = (
    ("service control polic", "a service control policy of your AWS organization",
     "no permission of your role helps: ask who manages the organization"),
    ("resource control polic", "a resource control policy of your AWS organization",
     "no permission of your role helps: ask who manages the organization"),
    ("permissions boundar", "the permissions boundary of your role or user",
     "no further permission of it helps: ask who set the boundary"),
    ("session polic", "the session policy with which the role was assumed",
     "assume the role without it, or ask who wrote it"),
    ("vpc endpoint polic", "the policy of the VPC endpoint", "ask who manages the endpoint"),
    ("resource-based polic", "the policy of the resource, for a KMS key its key policy",
     "ask an administrator of the resource to change it"),
)  # fmt: skip


def denied_by(message: str) -> tuple[str, str]:
    """Return who denied, and who can change it, as phrases; two empty texts when only a permission is missing.

    `message` is AWS's, such as `… with an explicit deny in a service control policy`.
    """
    found = re.search(
        r"\b(?:because no|(?:with|due to) an explicit deny in (?:an?|the))\s+(.+)", message, re.IGNORECASE | re.DOTALL
    )
    if found is None:
        return "", ""
    named = found[1].lower()
    for words, what, way_out in _BY:
        if named.startswith(words):
            return what, way_out
    if "explicit deny" in found[0].lower():
        return "a Deny in a policy of your role or user", "a further Allow does not help: have the Deny changed"
    return "", ""
