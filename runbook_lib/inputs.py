"""What each step asks for: one frozen model per step, with types, limits, labels and help.

Forms, papermill's parameters cells, parameter files and tests all read these declarations; there is no
other list of parameters. Only what can be judged without AWS is judged here: what only AWS can tell (does
the role exist, is the version on offer) is the pre-flight's and the plans' work.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from runbook_lib.errors import InputError
from runbook_lib.key_material import (
    REFUSED_WRAPPING_ALGORITHMS,
    RSAES_OAEP_SHA_1,
    RSAES_OAEP_SHA_256,
    WRAPPING_ALGORITHMS,
)
from runbook_lib.pass_phrases import check_origin

PORTS = {"aurora-mysql": 3306, "aurora-postgresql": 5432}
LOGS = {
    "aurora-mysql": ("audit", "error", "general", "instance", "slowquery", "iam-db-auth-error"),
    "aurora-postgresql": ("instance", "postgresql", "iam-db-auth-error"),
}
RESERVED_USER_NAMES = frozenset({"admin", "rdsadmin", "rdsrepladmin", "root", "user"})


def _matching(pattern: str, rule: str) -> Any:
    """Return a validator: the text is empty or matches `pattern`, else the error states `rule`."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if value and not compiled.fullmatch(value):
            raise ValueError(f"{value!r} {rule}")
        return value

    return check


_PATH = {"format": "path"}


def _field(label: str, explanation: str, default: Any, **limits: Any) -> Any:
    return Field(default=default, title=label, description=explanation, validate_default=True, **limits)


class Inputs(BaseModel):
    """What every step asks for: the run it belongs to."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    # What no form asks: what the notebook has read before its form is shown.
    not_in_form: ClassVar[frozenset[str]] = frozenset({"run_id", "exercises"})

    # Set by `form` only: name to (who changed it, parameter, value now), and what was changed since.
    _edited: dict[str, tuple[str, object, object]] = PrivateAttr(default_factory=dict)
    _changed_since: Callable[[], list[str]] = PrivateAttr(default=list)

    run_id: str = _field("Run", "Name of the run folder that the steps share.", "demo")
    exercises: bool = _field(
        "Exercises", "Make the mistake at the end: in the sandbox only, in an account of its own.", True, exclude=True
    )

    @property
    def edited(self) -> dict[str, tuple[str, object, object]]:
        """The fields whose value is not the parameter's: who changed it, the parameter, the value now."""
        return self._edited

    @property
    def changed_since(self) -> Callable[[], list[str]]:
        """Asks which fields were changed in the form after these inputs were read from it."""
        return self._changed_since

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.run_id!r}, {len(type(self).model_fields) - 1} choices)"

    @field_validator("run_id")
    @classmethod
    def _run_id(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
            raise ValueError(
                f"{value!r} is no run id: 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        return value

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Take this step's fields from `given`, ignoring other names, and check them.

        Raises `InputError` with one line per wrong field.
        """
        return cls.check({name: given[name] for name in cls.model_fields if name in given})

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """Build the model from `values`; raise `InputError` with one line per wrong field."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise InputError([_problem(problem) for problem in error.errors()]) from None


def _problem(problem: Any) -> tuple[str, str]:
    """Say one pydantic problem in a sentence that names the value and the way out."""
    field = ".".join(str(part) for part in problem["loc"])
    value, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    if kind == "value_error" and not field:  # two fields that do not go together: the message names one
        field, _, message = str(context["error"]).partition(": ")
        return field, message
    if kind == "value_error":
        return field, str(context["error"])
    if field == "account_id":
        return (
            field,
            f"{value!r} is not text; write it as a quoted string of 12 digits, since YAML eats zeros",
        )
    if kind == "literal_error":
        return (
            field,
            f"{value!r} is not one of {context['expected']}{_nearest(str(value), context['expected'])}",
        )
    if kind.endswith("_type"):
        wanted = {
            "string_type": "text in quotes",
            "int_type": "a whole number",
            "bool_type": "true or false",
            "list_type": "a list",
            "dict_type": "a mapping",
            "float_type": "a number",
        }.get(kind, kind.removesuffix("_type"))
        return field, f"{value!r} ({type(value).__name__}) is not {wanted}"
    return field, f"{value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _nearest(value: str, expected: str) -> str:
    near = difflib.get_close_matches(value, re.findall(r"'([^']*)'", expected), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


Engine = Literal["aurora-mysql", "aurora-postgresql"]
_identifier = _matching(
    r"(?=.{1,63}$)[a-z](?:-?[a-z0-9])*",
    "is no identifier: 1 to 63 lower-case letters, digits and single hyphens, beginning with a letter and "
    "not ending in a hyphen",
)


class _KeyNames(Inputs):
    """The names in which 00 and 01 speak of the key."""

    key_alias: str = _field("Alias", "Display name of the KMS key, beginning with alias/.", "alias/aurora-byok")
    key_administrators: list[str] = _field(
        "Key administrators",
        "Roles or users that manage the key but cannot use it, as ARN, role/Name or user/Name. Empty: your own role.",
        [],
    )
    key_users: list[str] = _field(
        "Key users",
        "Roles or users that may create clusters under the key, through RDS only, as ARN, role/Name or "
        "user/Name. Empty: your own role.",
        [],
    )
    grant_rds_service_linked_role: bool = _field(
        "AWSServiceRoleForRDS as key user",
        "As the post has it; created if absent. What does the work is the caller's CreateGrant.",
        True,
    )

    @field_validator("key_alias")
    @classmethod
    def _alias(cls, value: str) -> str:
        if not value.startswith("alias/"):
            raise ValueError(f"{value!r} does not begin with 'alias/'; write 'alias/{value}'")
        if value.startswith("alias/aws/"):
            raise ValueError(f"{value!r} is reserved for AWS managed keys; choose a name not beginning 'alias/aws/'")
        if not re.fullmatch(r"alias/[a-zA-Z0-9:/_-]{1,250}", value):
            raise ValueError(
                f"{value!r} is no alias: letters, digits, ':', '/', '_' and '-' after 'alias/', 256 characters at most"
            )
        return value

    @field_validator("key_administrators", "key_users")
    @classmethod
    def _principals(cls, values: list[str]) -> list[str]:
        for value in values:
            if not re.fullmatch(r"(arn:aws[a-z-]*:iam::\d{12}:)?(role|user)/[\w+=,.@/-]{1,576}", value):
                raise ValueError(
                    f"{value!r} is no role or user; write 'role/Name', 'user/Name' or its ARN, "
                    "e.g. 'arn:aws:iam::123456789012:role/Admin'"
                )
        return values


class _ClusterChoices(Inputs):
    """What 00 checks before a key exists and 05 uses."""

    db_cluster_identifier: str = _field("DB cluster identifier", "Name of the new cluster.", "aurora-byok")
    engine: Engine = _field("Engine", "Aurora edition.", "aurora-mysql")
    engine_version: str = _field(
        "Engine version",
        "Empty: the version with long-term support that is on offer, else the default one.",
        "",
    )
    db_instance_class: str = _field(
        "Instance class", "Smallest current class, or db.serverless for Serverless v2.", "db.t4g.medium"
    )
    reader_count: int = _field(
        "Readers",
        "Aurora Replicas in other zones; 0 is a single instance (the post's Multi-AZ: 1).",
        0,
        ge=0,
        le=15,
    )
    vpc_id: str = _field("VPC", "Empty: the default VPC.", "")
    db_subnet_group_name: str = _field("Subnet group", "An existing one; empty: a new one over the VPC.", "")
    vpc_security_group_ids: list[str] = _field(
        "Security groups", "Existing ones; empty: a new one that lets nothing in.", []
    )
    db_cluster_parameter_group_name: str = _field("Cluster parameter group", "Empty: the engine's default.", "")
    db_parameter_group_name: str = _field("Instance parameter group", "Empty: the engine's default.", "")
    monitoring_interval: int = _field(
        "Enhanced Monitoring",
        "Seconds between samples: 1, 5, 10, 15, 30 or 60; 0 is standard monitoring.",
        0,
        json_schema_extra={"choices": [0, 1, 5, 10, 15, 30, 60]},
    )
    monitoring_role_arn: str = _field("Monitoring role", "Role ARN; needed for Enhanced Monitoring only.", "")
    master_user_secret_kms_key_id: str = _field(
        "Key of the managed password",
        "Key ARN or alias for the secret; empty: aws/secretsmanager. The imported key is a deliberate choice: "
        "the password is then out of reach whenever its material is.",
        "",
    )

    _identifier = field_validator("db_cluster_identifier")(_identifier)
    _class = field_validator("db_instance_class")(
        _matching(r"db\.[a-z0-9]+(\.[a-z0-9]+)?", "is no instance class; write e.g. 'db.t4g.medium'")
    )
    _vpc = field_validator("vpc_id")(_matching(r"vpc-[0-9a-f]{8,17}", "is no VPC id; write e.g. 'vpc-0a1b2c3d'"))
    _groups = field_validator("db_subnet_group_name", "db_cluster_parameter_group_name", "db_parameter_group_name")(
        _matching(
            r"[A-Za-z][A-Za-z0-9._ -]{0,254}",
            "is no group name: a letter, then letters, digits, '.', '_', '-'",
        )
    )
    _role = field_validator("monitoring_role_arn")(
        _matching(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", "is no role ARN")
    )

    @field_validator("db_cluster_identifier")
    @classmethod
    def _named(cls, value: str) -> str:
        if not value:
            raise ValueError("'' is no identifier; give the cluster a name")
        return value

    @field_validator("vpc_security_group_ids")
    @classmethod
    def _security_groups(cls, values: list[str]) -> list[str]:
        for value in values:
            if not re.fullmatch(r"sg-[0-9a-f]{8,17}", str(value)):
                raise ValueError(f"{value!r} is no security group id; write e.g. 'sg-0a1b2c3d'")
        return values

    @field_validator("monitoring_interval")
    @classmethod
    def _interval(cls, value: int) -> int:
        if value not in (0, 1, 5, 10, 15, 30, 60):
            raise ValueError(f"{value!r} seconds is not offered; choose 0 (standard), 1, 5, 10, 15, 30 or 60")
        return value

    @model_validator(mode="after")
    def _monitoring(self) -> Self:
        if self.monitoring_interval and not self.monitoring_role_arn:
            raise ValueError(
                f"monitoring_interval: {self.monitoring_interval} needs monitoring_role_arn, a role that trusts "
                "monitoring.rds.amazonaws.com; give one or set monitoring_interval to 0"
            )
        return self


class _Target(Inputs):
    """Where the run works."""

    target: Literal["sandbox", "aws"] = _field("Target", "sandbox: a simulation on this machine. aws: real.", "sandbox")
    account_id: str = _field(
        "Account", "12 digits. With target aws it must equal the account you are signed in to.", ""
    )
    region: str = _field("Region", "Region of the key and the cluster; the post's is London.", "eu-west-2")

    @field_validator("account_id")
    @classmethod
    def _account(cls, value: str) -> str:
        if value and not re.fullmatch(r"\d{12}", value):
            raise ValueError(f"{value!r} is no account id: a quoted string of 12 digits, or '' for not given")
        return value

    @field_validator("region")
    @classmethod
    def _region(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z]{2,3}(-[a-z]+)+-\d", value):
            raise ValueError(f"{value!r} is no Region; write e.g. 'eu-west-2'")
        return value

    @model_validator(mode="after")
    def _deliberate(self) -> Self:
        if self.target == "aws" and not self.account_id:
            raise ValueError("account_id: '' with target aws; write the 12 digits of the account you mean, in quotes")
        return self


class StartInputs(_ClusterChoices, _KeyNames, _Target):
    """00_start: where the run works, and the choices that can be checked before a key costs money."""

    not_in_form: ClassVar[frozenset[str]] = frozenset({"exercises"})


def _check_tags(values: dict[str, str]) -> dict[str, str]:
    if len(values) > 40:
        raise ValueError(f"{len(values)} tags are too many: AWS takes 50, of which 10 are kept for the run")
    for key, value in values.items():
        if not re.fullmatch(r"[\w\s+=.:/@-]{1,128}", key) or key.lower().startswith(("aws:", "runbook:")):
            raise ValueError(
                f"tag {key!r}: 1 to 128 letters, digits, spaces or + - = . _ : / @, not beginning with aws: or runbook:"
            )
        if not re.fullmatch(r"[\w\s+=.:/@-]{0,256}", value):
            raise ValueError(
                f"tag {key!r} has the value {value!r}: at most 256 letters, digits, spaces or + - = . _ : / @"
            )
    return values


class CreateKeyInputs(_KeyNames):
    """01_create_key: the key, who may do what with it, and what it is called."""

    key_description: str = _field(
        "Description",
        "Shown in the console and in CloudTrail: no secrets.",
        "Aurora storage encryption, imported key material",
        max_length=8192,
    )
    tags: dict[str, str] = _field("Tags", "Your own tags on everything that the run makes.", {})
    allow_key_deletion: bool = _field(
        "Administrators may delete the key", "The post's choice. Deletion waits 7 to 30 days.", True
    )
    _tags = field_validator("tags")(_check_tags)


class GetParametersForImportInputs(Inputs):
    """02_get_parameters_for_import: how the key material will be encrypted on its way."""

    wrapping_algorithm: str = _field(
        "Wrapping algorithm",
        "RSAES_OAEP_SHA_256, or RSAES_OAEP_SHA_1 as in the post.",
        RSAES_OAEP_SHA_256,
        json_schema_extra={"choices": [RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1]},
    )
    wrapping_key_spec: Literal["RSA_4096", "RSA_3072", "RSA_2048"] = _field(
        "Wrapping key spec", "Size of the wrapping key.", "RSA_4096"
    )

    @field_validator("wrapping_algorithm")
    @classmethod
    def _algorithm(cls, value: str) -> str:
        if value in REFUSED_WRAPPING_ALGORITHMS:
            raise ValueError(f"{value!r} is refused: {REFUSED_WRAPPING_ALGORITHMS[value]} Use {RSAES_OAEP_SHA_256}.")
        if value not in WRAPPING_ALGORITHMS:
            near = _nearest(value, str(list(WRAPPING_ALGORITHMS)))
            raise ValueError(f"{value!r} is not one of {RSAES_OAEP_SHA_256}, {RSAES_OAEP_SHA_1}{near}")
        return value


class EncryptKeyMaterialInputs(Inputs):
    """03_encrypt_key_material: where the 256 bits come from, and who keeps the original."""

    key_material_source: Literal["generate", "file", "wrapped", "recovery", "pkcs11"] = _field(
        "Source",
        "generate: from this machine's random source. file: 32 bytes from a file. wrapped: an EncryptedKeyMaterial.bin "
        "or hand-back.zip made elsewhere. recovery: from a custody copy. pkcs11: inside an HSM.",
        "generate",
    )
    key_material_file: str = _field(
        "File", "Path of the file, for the sources file, wrapped and recovery.", "", json_schema_extra=_PATH
    )
    key_material_encoding: Literal["binary", "hex", "base64"] = _field(
        "Encoding of the file", "For the source file only.", "binary"
    )
    recovery_private_key: str = _field(
        "Recovery private key", "Path, PEM, for the source recovery.", "", json_schema_extra=_PATH
    )
    recovery_password_from: str = _field(
        "Its password", "Where it is: prompt, env:NAME or file:PATH. Empty: it has none.", ""
    )
    pkcs11_module: str = _field(
        "PKCS 11 module", "Path of the library of the HSM, for the source pkcs11.", "", json_schema_extra=_PATH
    )
    pkcs11_token_label: str = _field("Token", "Its label.", "")
    pkcs11_key_label: str = _field("Key in the token", "Its label; made there if it is not.", "aurora-byok")
    pkcs11_pin_from: str = _field("PIN", "Where it is: prompt, env:NAME or file:PATH.", "prompt")
    custody: Literal["recovery_key", "hsm", "file", "none", "split"] = _field(
        "Custody of the original",
        "recovery_key: a copy encrypted to each recovery public key. split: a component to each, all needed. "
        "hsm: it stays in the token. file: in clear, for training. none: you keep the original elsewhere.",
        "recovery_key",
    )
    recovery_public_keys: list[str] = _field(
        "Recovery public keys",
        "Paths of RSA public keys in PEM form. In the sandbox, empty makes training keys.",
        [],
    )
    accept_no_custody: bool = _field(
        "I keep the original elsewhere", "Needed for custody none with material made or read here.", False
    )
    accept_plaintext_file: bool = _field("Accept it in clear", "Needed for custody file with target aws.", False)
    keep_plaintext_file: bool = _field(
        "Keep it in clear", "Custody file: keep PlaintextKeyMaterial.bin after the import; else it is destroyed.", False
    )

    @field_validator("recovery_password_from", "pkcs11_pin_from")
    @classmethod
    def _origin(cls, value: str) -> str:
        return check_origin(value)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        source = self.key_material_source
        for name, sources in _BY_SOURCE.items():
            if getattr(self, name) and source not in sources:
                raise ValueError(
                    f"{name}: is given, but key_material_source is {source!r}; choose {' or '.join(map(repr, sources))}"
                )
            if not getattr(self, name) and source in sources:
                raise ValueError(f"{name}: '' with key_material_source {source!r}; give its path or label")
        if source == "wrapped" and self.custody != "none":
            raise ValueError(
                f"custody: {self.custody!r} is not possible with key_material_source 'wrapped', since the original was "
                "never here; write 'none' and keep the original where it was made"
            )
        if (self.custody == "hsm") > (source == "pkcs11") or (source == "pkcs11" and self.custody in ("file", "split")):
            raise ValueError(
                f"custody: {self.custody!r} does not go with key_material_source {source!r}; what is made in an HSM stays there "
                "('hsm') or is encrypted there to recovery keys ('recovery_key')"
            )
        if self.custody == "split" and len(self.recovery_public_keys) == 1:
            raise ValueError("recovery_public_keys: one is not enough for custody 'split'; give each custodian's")
        if self.custody == "none" and source != "wrapped" and not self.accept_no_custody:
            raise ValueError(
                "custody: 'none' would leave nobody with the original key material, and losing it can lose the "
                "database; use 'recovery_key', or set accept_no_custody: true"
            )
        return self


_BY_SOURCE = {
    "key_material_file": ("file", "wrapped", "recovery"),
    "recovery_private_key": ("recovery",),
    "pkcs11_module": ("pkcs11",),
    "pkcs11_token_label": ("pkcs11",),
}


class ImportKeyMaterialInputs(Inputs):
    """04_import_key_material: whether the material expires."""

    expiration_model: Literal["KEY_MATERIAL_DOES_NOT_EXPIRE", "KEY_MATERIAL_EXPIRES"] = _field(
        "Expiration", "The post's choice is that it does not expire.", "KEY_MATERIAL_DOES_NOT_EXPIRE"
    )
    valid_to: str = _field(
        "Expires at",
        "For KEY_MATERIAL_EXPIRES: ISO 8601 with offset, e.g. 2027-06-30T00:00:00+00:00.",
        "",
        json_schema_extra={"format": "date-time"},
    )
    key_material_description: str = _field(
        "Description of the material",
        "Where the original lives, e.g. safe-3/card-7. No secrets.",
        "",
        max_length=256,
    )

    _description = field_validator("key_material_description")(
        _matching(r"[a-zA-Z0-9:/_\s.-]+", "holds other characters than letters, digits, spaces and : / _ . -")
    )

    @field_validator("valid_to", mode="before")
    @classmethod
    def _yaml_date(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value

    @field_validator("valid_to")
    @classmethod
    def _instant(cls, value: str) -> str:
        if not value:
            return value
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no ISO 8601 time; write e.g. 2027-06-30T00:00:00+00:00") from None
        if instant.tzinfo is None:
            raise ValueError(f"{value!r} has no offset from UTC; write e.g. {value}+00:00")
        return instant.astimezone(UTC).isoformat(timespec="seconds")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if self.expiration_model == "KEY_MATERIAL_EXPIRES" and not self.valid_to:
            raise ValueError("valid_to: '' with KEY_MATERIAL_EXPIRES; write when it expires")
        if self.expiration_model == "KEY_MATERIAL_DOES_NOT_EXPIRE" and self.valid_to:
            raise ValueError(f"valid_to: {self.valid_to!r} with KEY_MATERIAL_DOES_NOT_EXPIRE; leave it empty")
        return self


class CreateClusterInputs(_ClusterChoices):
    """05_create_cluster: everything that the post chooses in the RDS console."""

    database_name: str = _field("Database name", "First database; empty: none.", "appdb")
    port: int = _field("Port", "0: the engine's own (3306 or 5432).", 0)
    master_username: str = _field("Master user name", "Its password is made and kept by RDS.", "dbadmin")
    allowed_cidr: str = _field("Allowed network", "CIDR that the new security group lets in; empty: nothing.", "")
    serverless_min_capacity: float = _field("Serverless minimum", "ACUs, steps of 0.5; 0 pauses when idle.", 0.0)
    serverless_max_capacity: float = _field("Serverless maximum", "ACUs, steps of 0.5, 256 at most.", 2.0)
    promotion_tier: int = _field(
        "Failover priority", "0 (first) to 15; the post leaves the default, 1.", 1, ge=0, le=15
    )
    backup_retention_period: int = _field("Backup retention", "Days, 1 to 35.", 1, ge=1, le=35)
    deletion_protection: bool = _field("Deletion protection", "Advised for a cluster that lives.", False)
    copy_tags_to_snapshot: bool = _field("Copy tags to snapshots", "So that they can be found by tag.", True)
    enable_cloudwatch_logs_exports: list[str] = _field(
        "Log exports",
        "Logs sent to CloudWatch, e.g. error.",
        [],
        json_schema_extra={"choices": sorted({log for logs in LOGS.values() for log in logs})},
    )
    tags: dict[str, str] = _field("Tags", "Your own tags on everything that the run makes.", {})

    _tags = field_validator("tags")(_check_tags)
    _database = field_validator("database_name")(
        _matching(
            r"[A-Za-z][A-Za-z0-9_]{0,62}",
            "is no database name: a letter, then letters, digits and '_', 63 at most",
        )
    )

    @field_validator("port")
    @classmethod
    def _port(cls, value: int) -> int:
        if value != 0 and not 1150 <= value <= 65535:
            raise ValueError(f"{value} is no port: 1150 to 65535, or 0 for the engine's own")
        return value

    @field_validator("master_username")
    @classmethod
    def _user(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,15}", value):
            raise ValueError(f"{value!r} is no master user name: 1 to 16 letters and digits, beginning with a letter")
        if value.lower() in RESERVED_USER_NAMES:
            raise ValueError(f"{value!r} is reserved by the engine; choose another, e.g. 'dbadmin'")
        return value

    @field_validator("allowed_cidr")
    @classmethod
    def _cidr(cls, value: str) -> str:
        if not value:
            return value
        try:
            network = ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is no network: {error}; write e.g. 10.0.0.0/16") from None
        if network.prefixlen == 0:
            raise ValueError(f"{value!r} is the whole internet; name the network that needs the database")
        return value

    @field_validator("serverless_min_capacity", "serverless_max_capacity", mode="before")
    @classmethod
    def _whole_acus(cls, value: Any) -> Any:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("serverless_min_capacity", "serverless_max_capacity")
    @classmethod
    def _capacity(cls, value: float) -> float:
        if not 0 <= value <= 256 or value * 2 != int(value * 2):
            raise ValueError(f"{value} is no capacity: 0 to 256 ACUs in steps of 0.5")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.serverless_max_capacity < max(self.serverless_min_capacity, 1):
            raise ValueError(
                f"serverless_max_capacity: {self.serverless_max_capacity} is under 1 or under the minimum of "
                f"{self.serverless_min_capacity}"
            )
        logs = LOGS[self.engine]
        for log in self.enable_cloudwatch_logs_exports:
            if log not in logs:
                raise ValueError(
                    f"enable_cloudwatch_logs_exports: {log!r} is no log of {self.engine}: {', '.join(logs)}"
                )
        return self


class VerifyEncryptionInputs(Inputs):
    """06_verify_encryption: how long to wait, and whether to take a snapshot as further evidence."""

    wait_timeout_minutes: int = _field(
        "Wait at most", "Minutes until cluster and instances are available.", 60, ge=1, le=600
    )
    poll_seconds: int = _field(
        "Ask every", "Seconds between two looks; 0: 30 on AWS, 1 in the sandbox.", 0, ge=0, le=300
    )
    take_snapshot: bool = _field("Take a snapshot", "A manual snapshot as further evidence (it is kept).", False)
    read_cloudtrail: bool = _field(
        "Read CloudTrail", "What it recorded of key and cluster, for the report; needs cloudtrail:LookupEvents.", True
    )


class RecoveryDrillInputs(Inputs):
    """80_recovery_drill: how the original is opened, and which cluster may be out of service meanwhile."""

    recovery_private_keys: list[str] = _field(
        "Recovery private keys",
        "Paths, PEM: one for a copy, all for components. In the sandbox, empty: training keys.",
        [],
    )
    recovery_password_from: str = _field(
        "Their password", "Where it is: prompt, env:NAME or file:PATH. Empty: they have none.", ""
    )
    original_file: str = _field("Original in a file", "Path of the 32 bytes, where no copy was made here.", "")
    throw_away_db_cluster_identifier: str = _field(
        "Throw-away cluster",
        "With target aws: type the name of this run's cluster to let it become inaccessible. Empty: only reads.",
        "",
    )
    wait_timeout_minutes: int = _field(
        "Wait at most", "Minutes until cluster and instances are available.", 60, ge=1, le=600
    )

    _origin = field_validator("recovery_password_from")(check_origin)
    _cluster = field_validator("throw_away_db_cluster_identifier")(_identifier)


class CleanUpInputs(Inputs):
    """90_clean_up: the confirmation, and how long the key waits."""

    confirm_db_cluster_identifier: str = _field(
        "Type the cluster's name to delete", "Empty: the plan is shown and nothing is deleted.", ""
    )
    pending_window_in_days: int = _field(
        "Waiting period of the key", "Days, 7 to 30, in which its deletion can be cancelled.", 30, ge=7, le=30
    )
    final_db_snapshot_identifier: str = _field(
        "Final snapshot", "Name of a last snapshot; empty: none. While it exists the key is kept.", ""
    )
    _snapshot = field_validator("final_db_snapshot_identifier")(_identifier)


# The headings of a form, and what stands under each; what is not named here comes first, under none.
GROUPS: dict[str, tuple[str, ...]] = {
    "Key": ("key_alias", "key_description", "key_administrators", "key_users", "grant_rds_service_linked_role",
            "allow_key_deletion"),
    "Cluster": ("db_cluster_identifier", "engine", "engine_version", "db_instance_class", "reader_count",
                "serverless_min_capacity", "serverless_max_capacity", "promotion_tier"),
    "Database": ("database_name", "port", "master_username", "master_user_secret_kms_key_id"),
    "Network": ("vpc_id", "db_subnet_group_name", "vpc_security_group_ids", "allowed_cidr"),
    "Parameter groups, monitoring and logs": (
        "db_cluster_parameter_group_name", "db_parameter_group_name", "monitoring_interval", "monitoring_role_arn",
        "enable_cloudwatch_logs_exports"),
    "Backup and protection": ("backup_retention_period", "deletion_protection", "copy_tags_to_snapshot"),
    "Tags": ("tags",),
    "Only for material made in an HSM": (
        "pkcs11_module", "pkcs11_token_label", "pkcs11_key_label", "pkcs11_pin_from"),
    "Who keeps the original": (
        "custody", "recovery_public_keys", "accept_no_custody", "accept_plaintext_file", "keep_plaintext_file"),
}  # fmt: skip

STEP_INPUTS: dict[str, type[Inputs]] = {
    "00_start": StartInputs,
    "01_create_key": CreateKeyInputs,
    "02_get_parameters_for_import": GetParametersForImportInputs,
    "03_encrypt_key_material": EncryptKeyMaterialInputs,
    "04_import_key_material": ImportKeyMaterialInputs,
    "05_create_cluster": CreateClusterInputs,
    "06_verify_encryption": VerifyEncryptionInputs,
    "80_recovery_drill": RecoveryDrillInputs,
    "90_clean_up": CleanUpInputs,
}
