"""The declarations: what is accepted, what is refused, and in which words."""

from __future__ import annotations

from datetime import date

import pytest

from runbook_cli.parameters import check_parameters, from_command_line, read_parameters
from runbook_lib.errors import (
    InputError,
    KeyMaterialEncoded,
    KeyMaterialLength,
    ParameterFileInvalid,
    PolicyInvalid,
    RecoveryKeyInvalid,
)
from runbook_lib.inputs.kms import (
    CreateKeyInputs,
    EncryptKeyMaterialInputs,
    GetParametersForImportInputs,
    ImportKeyMaterialInputs,
)
from runbook_lib.inputs.rds import CreateClusterInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.steps import STEP_INPUTS


@pytest.mark.parametrize("model", STEP_INPUTS.values(), ids=STEP_INPUTS)
def test_defaults_are_a_valid_sandbox_run(model):
    """Every step can be run with its defaults."""
    assert model.check({}).run_id == "demo"


@pytest.mark.parametrize("region", ["eu-west-2", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "us-isob-east-1"])
def test_regions_of_every_partition_are_accepted(region):
    """Whether a Region exists is AWS's to say; its name has the same form in each partition."""
    assert region == StartInputs.check({"region": region}).region


@pytest.mark.parametrize("model", STEP_INPUTS.values(), ids=STEP_INPUTS)
def test_every_field_has_a_label_and_help_that_a_parameters_cell_can_hold(model):
    """papermill cannot read a line with a second equals sign or an inner comment."""
    for name, field in model.model_fields.items():
        assert field.title, name
        assert field.description, name
        assert "=" not in field.description + field.title
        assert "#" not in field.description + field.title


@pytest.mark.parametrize(
    ("model", "field", "value", "words"),
    [
        (CreateKeyInputs, "key_alias", "aurora-byok", "write 'alias/aurora-byok'"),
        (CreateKeyInputs, "key_alias", "alias/aws/rds", "reserved"),
        (CreateKeyInputs, "key_alias", "alias/a b", "not a valid alias"),
        (CreateKeyInputs, "key_administrators", ["Admin"], "write 'role/Name'"),
        (CreateKeyInputs, "tags", {"runbook:run-id": "x"}, "not beginning with aws: or runbook:"),
        (CreateKeyInputs, "allow_key_deletion", "yes", "true or false"),
        (StartInputs, "account_id", 123456789012, "write 12 digits in quotes"),
        (StartInputs, "account_id", 12345678901, "write 12 digits in quotes"),
        (StartInputs, "account_id", "1234", "12 digits"),
        (StartInputs, "region", "London", "eu-west-2"),
        (StartInputs, "target", "asw", "did you mean 'aws'"),
        (StartInputs, "run_id", "../up", "not a valid run ID"),
        (StartInputs, "run_id", "", "not a valid run ID"),
        (StartInputs, "monitoring_interval", 7, "write 0 (off), 1, 5"),
        (StartInputs, "monitoring_interval", 60, "monitoring_role_arn"),
        (GetParametersForImportInputs, "wrapping_algorithm", "RSAES_PKCS1_V1_5", "2023-10-10"),
        (GetParametersForImportInputs, "wrapping_algorithm", "RSA_AES_KEY_WRAP_SHA_256", "private keys"),
        (GetParametersForImportInputs, "wrapping_algorithm", "RSAES_OAEP_SHA_265", "did you mean 'RSAES_OAEP_SHA_256'"),
        (GetParametersForImportInputs, "wrapping_key_spec", "RSA_1024", "RSA_4096"),
        (EncryptKeyMaterialInputs, "custody", "none", "accept_no_custody"),
        (EncryptKeyMaterialInputs, "key_material_source", "file", "give its path"),
        (ImportKeyMaterialInputs, "valid_to", "2027-01-01T00:00:00+00:00", "leave it empty"),
        (ImportKeyMaterialInputs, "expiration_model", "KEY_MATERIAL_EXPIRES", "write the time"),
        (ImportKeyMaterialInputs, "valid_to", "next week", "ISO 8601"),
        (ImportKeyMaterialInputs, "valid_to", "2027-01-01T00:00:00", "no UTC offset"),
        (ImportKeyMaterialInputs, "valid_to", "2027-01-01", "no time; write e.g. 2027-01-01T00:00:00+00:00"),
        (ImportKeyMaterialInputs, "valid_to", date(2027, 1, 1), "'2027-01-01' has no time"),
        (CreateClusterInputs, "db_cluster_identifier", "Aurora_1", "lower-case"),
        (CreateClusterInputs, "db_cluster_identifier", "a--b", "single hyphens"),
        (CreateClusterInputs, "db_cluster_identifier", "", "give the cluster a name"),
        (CreateClusterInputs, "database_name", "app-db", "not a valid database name"),
        (CreateClusterInputs, "port", 80, "1150 to 65535"),
        (CreateClusterInputs, "master_username", "rdsadmin", "reserved"),
        (CreateClusterInputs, "backup_retention_period", 0, "write 1 to 35 days"),
        (CreateClusterInputs, "backup_retention_period", "7", "a whole number"),
        (CreateClusterInputs, "allowed_cidr", "0.0.0.0/0", "whole internet"),
        (CreateClusterInputs, "allowed_cidr", "10.0.0.1/16", "not a valid network"),
        (
            CreateClusterInputs,
            "enable_cloudwatch_logs_exports",
            ["postgresql"],
            "is not a log of aurora-mysql; choose from",
        ),
        (CreateClusterInputs, "serverless_max_capacity", 0.7, "steps of 0.5"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_the_value_and_the_way_out(model, field, value, words):
    """Bad input gets one line that names the field, and says what to write."""
    with pytest.raises(InputError) as told:
        model.check({field: value})
    lines = [f"{name}: {message}" for name, message in told.value.problems]
    assert any(words in line for line in lines), lines
    assert all("\n" not in line for line in lines)
    assert any(repr(value)[:20].strip("'[]{}") in line for line in lines) or words in lines[0]


def test_target_aws_asks_for_the_account():
    """Real AWS is entered deliberately: an account must be named."""
    with pytest.raises(InputError, match="account_id"):
        StartInputs.check({"target": "aws"})
    assert StartInputs.check({"target": "aws", "account_id": "012345678901"}).account_id == "012345678901"


def test_an_unknown_parameter_is_refused_with_the_nearest_name():
    """A misspelt parameter is never ignored."""
    with pytest.raises(InputError, match="did you mean key_alias"):
        check_parameters({"key_alais": "alias/x"})


@pytest.mark.parametrize(
    "error",
    [InputError, ParameterFileInvalid, KeyMaterialLength, KeyMaterialEncoded, RecoveryKeyInvalid, PolicyInvalid],
)
def test_bad_input_is_a_value_error_too(error):
    """A caller that knows only Python's own errors can catch what its input caused."""
    assert issubclass(error, ValueError)


def test_all_problems_are_told_at_once():
    """Nobody mends ten mistakes in ten runs."""
    with pytest.raises(InputError) as told:
        check_parameters({"key_alias": "x", "port": 1, "wrapping_key_spec": "RSA"})
    assert {"key_alias", "port", "wrapping_key_spec"} == {field for field, _ in told.value.problems}


def test_valid_to_is_kept_in_utc():
    """An expiry date means one instant, whatever the offset it was written with."""
    given = {"expiration_model": "KEY_MATERIAL_EXPIRES", "valid_to": "2027-06-30T02:00:00+02:00"}
    assert ImportKeyMaterialInputs.check(given).valid_to == "2027-06-30T00:00:00+00:00"


def test_yaml_dates_and_numbers_become_what_is_meant(tmp_path):
    """An unquoted YAML time is a time; an unquoted account id is refused, since YAML eats leading zeros."""
    file = tmp_path / "p.yaml"
    file.write_text("expiration_model: KEY_MATERIAL_EXPIRES\nvalid_to: 2027-06-30T00:00:00+00:00\n")
    assert ImportKeyMaterialInputs.read(read_parameters(file)).valid_to == "2027-06-30T00:00:00+00:00"
    file.write_text("account_id: 123456789012\n")
    with pytest.raises(InputError, match="12 digits in quotes"):
        check_parameters(read_parameters(file))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1", "is not valid YAML at line"),
        (b"- a\n- b\n", "a flat mapping"),
        (b"1: x\n", "a flat mapping"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_flat_mapping_is_refused(tmp_path, content, words):
    """A parameter file is one flat YAML mapping in UTF-8."""
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(ParameterFileInvalid, match=words):
        read_parameters(file)


def test_a_yaml_tag_runs_nothing(tmp_path):
    """A parameter file is data: tags that would build objects are refused."""
    file = tmp_path / "p.yaml"
    file.write_text("key_alias: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ParameterFileInvalid):
        read_parameters(file)


def test_values_of_the_command_line_take_the_type_of_their_field():
    """-p account_id 012345678901 keeps its zero, -p port 3306 is a number, lists are YAML."""
    given = from_command_line([("account_id", "012345678901"), ("port", "3306"), ("key_users", "[role/App]")])
    assert given == {"account_id": "012345678901", "port": 3306, "key_users": ["role/App"]}
