"""boto3 clients for a run's target; every other endpoint and account is refused. Knows no step.

Target `sandbox` calls one endpoint on this machine, with dummy credentials; target `aws` calls AWS hosts only, in the
account that the run is fixed to. No environment variable, profile or configuration file changes that: endpoint, Region,
retries and proxies are set here, and the host of each request is checked before it is sent. So is the account: since
credentials can be replaced during a session, STS confirms each access key before a request is signed with it.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    SSOError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from runbook_lib.aws import sandbox_process, seat_file
from runbook_lib.aws.answers import clock_skew, error_text, raise_for_answer
from runbook_lib.aws.partitions import host_suffixes
from runbook_lib.aws.sandbox_accounts import ACCOUNT_HEADER
from runbook_lib.aws.sdk import ISOLATED, is_region_name, loader
from runbook_lib.aws.sign_in import OF_PROVIDERS, SIGN_IN, access_key_of, answer_mfa_prompts
from runbook_lib.errors import (
    AccessDenied,
    AwsCallFailed,
    CredentialsMissing,
    SandboxEnded,
    SandboxUnavailable,
    WrongAccount,
    WrongEndpoint,
    WrongRegion,
)


class Session:
    """Clients for one target, account and Region, with AWS's clock and the caller's identity."""

    def __init__(
        self, *, target: str, region: str, account_id: str = "", endpoint_url: str = "", sandbox_id: str = ""
    ) -> None:
        self.target = target
        self.region = region
        self.endpoint_url = endpoint_url
        self._expected_account = account_id
        self._sandbox = sandbox_process.seen_as(sandbox_id, endpoint_url, account_id)
        self._seen: tuple[datetime, float] | None = None
        self._identities: dict[str, dict[str, str]] = {}  # by access key: the identity that STS returned
        self._identity_lock = threading.Lock()
        self._sign_sts_with = threading.local()
        self._clients: dict[tuple[str, str, bool], Any] = {}
        self.requests: deque[tuple[str, str, str]] = deque(
            maxlen=500
        )  # the last answers: call, request ID, Date header
        self._offers: dict[tuple[str, ...], Any] = {}
        try:
            core = botocore.session.Session(session_vars=ISOLATED if target == "sandbox" else None)
            if target == "sandbox":
                core.set_credentials("sandbox", "sandbox")
            core.register_component("data_loader", loader(core.get_config_variable("data_path")))
            self._boto: Any = boto3.Session(botocore_session=core, region_name=region)
            if target != "sandbox":
                answer_mfa_prompts(core)
        except ProfileNotFound as error:
            raise CredentialsMissing(f"{error}; set AWS_PROFILE to one that exists, or unset it") from error
        partition = core.get_partition_for_region(region) if is_region_name(region) else "aws"
        self.partition: str = partition
        self._hosts = host_suffixes(partition)

    def as_caller(self, access_key: str, secret_key: str, token: str) -> Session:
        """Return a session in the same account of the sandbox for another caller. Raises `ValueError` for another target."""
        if self.target != "sandbox":
            raise ValueError("another caller is for the sandbox only")
        account, url = self._expected_account, self.endpoint_url
        other = Session(target=self.target, region=self.region, account_id=account, endpoint_url=url)
        other._boto._session.set_credentials(access_key, secret_key, token)
        return other

    def __repr__(self) -> str:
        where = f" at {self.endpoint_url}" if self.endpoint_url else ""
        return f"Session({self.target}, {self.region}{where})"

    # Clients ------------------------------------------------------------------------------------------

    def client(self, service: str, *, region: str = "", retry: bool = True) -> Any:
        """Return the shared client of `service`.

        With `retry=False` the SDK sends each request once. Use it for creates: botocore would repeat one after a dropped
        connection and create two resources.
        """
        key = (service, region or self.region, retry)
        if key not in self._clients:
            settings: dict[str, Any] = {
                "retries": {"total_max_attempts": 8 if retry else 1, "mode": "standard"},
                "connect_timeout": 10,
                "read_timeout": 60,
                "ignore_configured_endpoint_urls": True,
                "user_agent_extra": "aurora-byok-runbook",
            }
            if self.endpoint_url:
                settings |= {"proxies": {}, "use_fips_endpoint": False, "use_dualstack_endpoint": False}
            config = Config(**settings)
            client = self._boto.client(
                service, region_name=region or None, endpoint_url=self.endpoint_url or None, config=config
            )
            client.meta.events.register_first("before-sign", self._before_sign)
            client.meta.events.register_first("before-send", self._before_send)
            client.meta.events.register("after-call", partial(self._after_call, retried=retry))
            client.meta.events.register("after-call-error", self._after_call_error)
            self._clients[key] = client
        return self._clients[key]

    def offered(self, *what: str, fetch: Callable[[], Any]) -> Any:
        """Return the offers named `what`, fetched once: they do not change while a notebook runs."""
        if what not in self._offers:
            self._offers[what] = fetch()
        return self._offers[what]

    def _before_sign(self, request: Any, operation_name: str = "", **_: Any) -> None:
        """Sign each AWS request, botocore's retries included, with credentials whose account STS confirmed.

        The credentials are fixed for this one request. Otherwise botocore could refresh them between the check and
        the signature.
        """
        if self.endpoint_url:
            return  # dummy credentials, which never change
        if operation_name == _WHO:
            checked = getattr(self._sign_sts_with, "credentials", None)
        else:
            checked, _identity = self._caller()
        if checked is not None:
            request.context["signing"] = {**request.context.get("signing", {}), "request_credentials": checked}

    def _before_send(self, request: Any, event_name: str = "", **_: Any) -> None:
        sent_to = urlsplit(request.url)
        if self.endpoint_url:
            if (sent_to.scheme, sent_to.netloc) != urlsplit(self.endpoint_url)[:2]:
                raise WrongEndpoint(
                    f"a sandbox run was about to call {sent_to.netloc}; it may call {self.endpoint_url} only"
                )
            request.headers[ACCOUNT_HEADER] = self._expected_account
            for name, value in {**self._sandbox, **seat_file.headers(self.endpoint_url)}.items():
                request.headers[name] = value
        elif sent_to.scheme != "https" or not f".{sent_to.hostname or ''}".endswith(self._hosts):
            raise WrongEndpoint(
                f"an AWS run was about to call {sent_to.geturl()!r}; it may call AWS hosts over https only"
            )
        elif event_name.rpartition(".")[2] != _WHO:
            identity = self._identities.get(access_key_of(request))
            if identity is None:
                raise WrongAccount(
                    "an AWS run was about to send a request signed with credentials whose account was not checked; "
                    "nothing was sent; run the cell or command again"
                )
            self._require_account(identity)

    def _after_call(self, parsed: Mapping[str, Any], model: Any, retried: bool = True, **_: Any) -> None:
        call, metadata = f"{model.service_model.signing_name}:{model.name}", parsed.get("ResponseMetadata", {})
        date = metadata.get("HTTPHeaders", {}).get("date")
        self.requests.append((call, str(metadata.get("RequestId", "")), str(date or "")))
        if date:
            self._seen = (parsedate_to_datetime(date).astimezone(UTC), time.monotonic())
        error = parsed.get("Error", {})
        if self.endpoint_url and (refused := _OF_A_ROOM.get(error.get("Code", ""))):
            raise refused(str(error.get("Message")))
        raise_for_answer(parsed, call, retried=retried)

    def _after_call_error(self, exception: Exception, **_: Any) -> None:
        if isinstance(exception, NoCredentialsError | PartialCredentialsError | SSOError):
            raise CredentialsMissing(f"{exception}; {SIGN_IN}") from exception
        if isinstance(exception, EndpointConnectionError) and self.endpoint_url:
            raise SandboxEnded(_ended(f"the sandbox at {self.endpoint_url} does not respond")) from exception

    # Who, where, when -----------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the current time by AWS's clock, in UTC: the Date header of the last response plus the time since."""
        if self._seen is None:
            self.client("sts").get_caller_identity()
        if self._seen is None:
            return datetime.now(UTC)
        moment, at = self._seen
        return moment + timedelta(seconds=time.monotonic() - at)

    def identity(self) -> dict[str, str]:
        """Return `Account`, `Arn` and `UserId` of the current caller (sts:GetCallerIdentity).

        STS is called once for each access key. Raises `CredentialsMissing`, `WrongAccount` or `WrongRegion`.
        """
        try:
            _, identity = self._caller()
        except (BotoConnectionError, HTTPClientError) as error:
            if self.endpoint_url:
                raise SandboxEnded(_ended(f"the sandbox at {self.endpoint_url} does not respond")) from error
            if isinstance(error, ProxyConnectionError):
                raise AwsCallFailed(
                    f"the proxy does not respond ({error}); correct HTTPS_PROXY, or unset it: AWS was not reached"
                ) from error
            raise WrongRegion(
                f"AWS does not respond in Region {self.region!r} ({error}); check the Region's name and the network"
            ) from error
        return dict(identity)

    def _caller(self) -> tuple[Credentials, dict[str, str]]:
        """Return the current credentials, frozen, and their identity from STS.

        Raises `CredentialsMissing`, `WrongAccount`, and botocore's connection errors, which a wait retries.
        """
        try:
            found = self._boto.get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        except (BotoConnectionError, HTTPClientError):
            raise
        except OF_PROVIDERS as error:
            raise CredentialsMissing(f"{' '.join(str(error).split())}; {SIGN_IN}") from error
        if frozen is None:
            raise CredentialsMissing(f"{NoCredentialsError()}; {SIGN_IN}")
        credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token, account_id=frozen.account_id)
        with self._identity_lock:
            if frozen.access_key not in self._identities:
                self._identities[frozen.access_key] = self._fetch_identity(credentials)
            identity = self._identities[frozen.access_key]
            if not self._expected_account and not self.endpoint_url:
                self._expected_account = identity["Account"]
        self._require_account(identity)
        return credentials, identity

    def _fetch_identity(self, credentials: Credentials) -> dict[str, str]:
        """Return STS's answer to a request that is signed with exactly these credentials."""
        self._sign_sts_with.credentials = credentials
        try:
            answer = self.client("sts").get_caller_identity()
        except (BotoConnectionError, HTTPClientError):
            raise
        except ClientError as error:
            if skew := clock_skew(error.response):
                raise CredentialsMissing(skew) from error
            raise CredentialsMissing(f"AWS refused the credentials ({error_text(error)}); sign in again") from error
        except BotoCoreError as error:
            raise CredentialsMissing(f"{error}; sign in, then run the cell or command again") from error
        finally:
            self._sign_sts_with.credentials = None
        return {name: answer[name] for name in ("Account", "Arn", "UserId")}

    def _require_account(self, identity: Mapping[str, str]) -> None:
        if self._expected_account and identity["Account"] != self._expected_account:
            raise WrongAccount(
                f"you are signed in to account {identity['Account']}, the run is for {self._expected_account}; "
                "sign in to the run's account and start the notebook or command again, or correct account_id"
            )

    @property
    def account_id(self) -> str:
        """The caller's account, 12 digits."""
        return self.identity()["Account"]

    def principal_arn(self) -> str:
        """Return the caller's ARN for a key policy; for an assumed role, the ARN of the role with its path.

        Raises `AccessDenied` when the role cannot be read (iam:GetRole).
        """
        arn = self.identity()["Arn"]
        if not (match := re.fullmatch(r"arn:[^:]+:sts::\d{12}:assumed-role/([^/]+)/.+", arn)):
            return arn
        return str(self.client("iam").get_role(RoleName=match[1])["Role"]["Arn"])


_OF_A_ROOM = {sandbox_process.SEAT_WAS_RESET: SandboxEnded, sandbox_process.ROOM_REFUSED: AccessDenied}
_WHO = "GetCallerIdentity"  # the one call that is sent before the account is known


def _ended(what: str) -> str:
    return f"{what}: its resources ended with it; start the run again (notebooks/00_start.ipynb or runbook run)"


def sandbox_session(sandbox: sandbox_process.Sandbox, *, region: str, account_id: str) -> Session:
    """Return a session on a running sandbox, in one of its accounts."""
    return Session(
        target="sandbox", region=region, account_id=account_id, endpoint_url=sandbox.url, sandbox_id=sandbox.sandbox_id
    )


def session_for(target: Mapping[str, str], *, runs_dir: Path) -> Session:
    """Return a session for the target that a run is fixed to, its account checked.

    Raises `SandboxEnded` when the run's own sandbox has ended, and what `Session.identity` raises.
    """
    if target["target"] == "sandbox":
        try:
            sandbox = sandbox_process.find(runs_dir)
        except SandboxUnavailable as error:
            raise SandboxEnded(_ended(str(error))) from error
        if sandbox is None or sandbox.sandbox_id != target["sandbox_id"]:
            raise SandboxEnded(_ended("the sandbox of this run has ended"))
        session = sandbox_session(sandbox, region=target["region"], account_id=target["account_id"])
    else:
        session = Session(target="aws", region=target["region"], account_id=target["account_id"])
    session.identity()
    return session
