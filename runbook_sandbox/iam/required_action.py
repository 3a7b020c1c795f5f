"""One action to authorize, and where: what the tables of the services are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Form = Mapping[str, Any]


@dataclass(frozen=True)
class RequiredAction:
    """One action to authorize, with its resource and condition keys."""

    action: str
    resource: str = "*"
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """The account and Region of a request, for building ARNs."""

    account: str
    region: str

    def arn(self, service: str, name: str, *, regional: bool = True) -> str:
        """Return the ARN of a resource of this account."""
        return f"arn:aws:{service}:{self.region if regional else ''}:{self.account}:{name}"


Required = Callable[[Form, Place, dict[str, Any]], list[RequiredAction]]


def of_resource(action: str, arn: Callable[[Form, Place], str]) -> Required:
    """Return a function for an operation on one resource, whose ARN follows from the request."""
    return lambda form, place, tags: [RequiredAction(action, arn(form, place), tags)]
