"""STS and IAM where moto differs: the caller is the role Admin, and service-linked roles have AWS's names."""

from __future__ import annotations

from typing import Any

import moto.iam.models
import moto.iam.urls
import moto.sts.urls
from moto.core.responses import ActionResult
from moto.iam.exceptions import InvalidInput
from moto.sts.responses import TokenResponse

from runbook_sandbox.iam.simulation import SimulationResponse
from runbook_sandbox.instruments import accounts


class SandboxTokenResponse(TokenResponse):
    """moto gap: GetCallerIdentity returns `user/moto`, which IAM does not have, so no policy can name it."""

    def get_caller_identity(self) -> ActionResult:
        user_id, arn = accounts.caller(self.current_account, self.get_access_key())
        return ActionResult({"UserId": user_id, "Account": self.current_account, "Arn": arn})


class SandboxIamResponse(SimulationResponse):
    """moto gap: it names the role `AWSServiceRoleForrds`, and a second call returns EntityAlreadyExists."""

    def create_service_linked_role(self) -> ActionResult:
        service = self._get_param("AWSServiceName") or ""
        backend: Any = accounts.iam_of(self.current_account)
        if service.count(".") < 2 or not service.endswith((".amazonaws.com", ".amazonaws.com.cn")):
            raise InvalidInput(f"The service {service} does not support service-linked roles.")
        path, suffix = f"/aws-service-role/{service}/", self._get_param("CustomSuffix")
        for role in backend.roles.values():
            if role.path == path and (not suffix or role.name.endswith(f"_{suffix}")):
                raise InvalidInput(
                    f"Service role name {role.name} has been taken in this account, please try a different suffix."
                )
        result: ActionResult = super().create_service_linked_role()
        return result


def install() -> None:
    """Install these handlers in moto."""
    moto.iam.models.SERVICE_NAME_CONVERSION["rds"] = "RDS"
    moto.sts.urls.url_paths = {"{0}/$": SandboxTokenResponse.dispatch}
    moto.iam.urls.url_paths = {"{0}/$": SandboxIamResponse.dispatch}
