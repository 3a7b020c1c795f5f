"""Aliases: dates, limits, reserved names, paging, and the predefined aliases of AWS services.

moto gap: it allows unreserved names under alias/aws/, returns no dates, and has no paging.
"""

from __future__ import annotations

import json
from typing import Any

from moto.kms.models import Key
from moto.kms.utils import RESERVED_ALIASES
from moto.utilities.utils import get_partition

from runbook_sandbox.kms import keys as kms_keys
from runbook_sandbox.kms.base import KmsBase, error

MOST_PER_KEY = 50


class AliasOperations(KmsBase):
    """CreateAlias, UpdateAlias, DeleteAlias, ListAliases."""

    def _alias_name(self) -> str:
        name = str(self.parameters["AliasName"])
        if not name.startswith("alias/") or name == "alias/":
            raise error(
                "ValidationException",
                'Alias must start with the prefix "alias/". Please see '
                "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
            )
        if ":" in name:
            raise error("ValidationException", f"{name} contains invalid characters for an alias")
        if name.startswith("alias/aws/"):
            raise error("NotAuthorizedException", f"{name} begins with alias/aws/, which is reserved.")
        return name

    def _holder(self, name: str) -> Key | None:
        keys = kms_keys.all_keys(self.current_account, self.region)
        return next((key for key in keys if name in key.aliases), None)

    def _arn(self, name: str) -> str:
        return f"arn:{get_partition(self.region)}:kms:{self.region}:{self.current_account}:{name}"

    def _has_room(self) -> None:
        if len(self.key.aliases) >= MOST_PER_KEY:
            raise error("LimitExceededException", f"{self.key.arn} has {MOST_PER_KEY} aliases, which is the quota.")

    def create_alias(self) -> str:
        name = self._alias_name()
        if self._holder(name) is not None:
            raise error("AlreadyExistsException", f"An alias with the name {self._arn(name)} already exists")
        self._has_room()
        kms_keys.set_alias(self.key, name)
        return "{}"

    def update_alias(self) -> str:
        name = self._alias_name()
        holder = self._holder(name)
        if holder is None:
            raise error("NotFoundException", f"Alias {self._arn(name)} is not found.")
        if (holder.key_spec, holder.key_usage) != (self.key.key_spec, self.key.key_usage):
            raise error(
                "ValidationException", f"Alias {name} can only be moved to a key with the same key spec and key usage."
            )
        if holder is not self.key:
            self._has_room()
        kms_keys.set_alias(self.key, name)
        return "{}"

    def delete_alias(self) -> str:
        name = self._alias_name()
        holder = self._holder(name)
        if holder is None:
            raise error("NotFoundException", f"Alias {self._arn(name)} is not found.")
        self.runbook_key_arn = holder.arn
        self.authorize("DeleteAlias", holder)
        del holder.aliases[name]
        kms_keys.extension_of(holder).alias_dates.pop(name, None)
        return "{}"

    def list_aliases(self) -> str:
        wanted = self.parameters.get("KeyId")
        if wanted is not None:
            self.key = self.find(wanted, alias=False)
            keys = [self.key]
        else:
            keys = kms_keys.all_keys(self.current_account, self.region)
        found = [self._alias_entry(name, key) for key in keys for name in key.aliases]
        if wanted is None:
            in_use = {entry["AliasName"] for entry in found}
            # Predefined aliases have no TargetKeyId until their service first needs the key.
            found += [{"AliasName": name, "AliasArn": self._arn(name)}
                      for name in RESERVED_ALIASES if name not in in_use]  # fmt: skip
        found.sort(key=lambda entry: str(entry["AliasName"]))
        chosen, paging = self.page(found, default=50, largest=100)
        return json.dumps({"Aliases": chosen, **paging})

    def _alias_entry(self, name: str, key: Key) -> dict[str, Any]:
        entry: dict[str, Any] = {"AliasName": name, "AliasArn": self._arn(name), "TargetKeyId": key.id}
        dates = kms_keys.extension_of(key).alias_dates.get(name)
        if dates is not None:
            entry |= {"CreationDate": dates[0].timestamp(), "LastUpdatedDate": dates[1].timestamp()}
        return entry
