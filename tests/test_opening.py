"""Open key material from what the custodians provide: which backup, with which key, and what is refused with which error."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from openssl import private_key, private_pem, public_der, put
from unwrap import decrypt_key_material

from runbook_lib.errors import (
    ArtefactMissing,
    EncryptedKeyMaterialInvalid,
    RecoveryKeyInvalid,
    RecoverySourceInvalid,
    WrappingKeyInvalid,
)
from runbook_lib.material import open_recovery_copy, pkcs11, recovery_copies
from runbook_lib.material.key_material import RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, KeyMaterial, oaep
from runbook_lib.material.material_set import Wrapping
from runbook_lib.material.open_recovery_copy import RecoverySources, check_opens, differs, opened
from runbook_lib.material.recovery_keys import key_fingerprint

KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
CHECK_VALUE = "1a0b2d"
KEYS = [private_key(2048, number) for number in range(3)]
NAMES = [key_fingerprint(key.public_key()) for key in KEYS]
ARN = "arn:aws:kms:eu-west-2:123456789012:key/0f1c2a3b-0000-4000-8000-000000000000"


def record(copies, custody="recovery_key", check_value=CHECK_VALUE, **facts):
    return recovery_copies.record(
        custody=custody, source="generate", key_check_value=check_value, copies=copies,
        made_at=datetime(2026, 11, 24, 12, tzinfo=UTC), **facts,
    )  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    """Two backups of the known key material, for the first and the second key: record and reader."""
    made = recovery_copies.seal(KeyMaterial(KNOWN), [key.public_key() for key in KEYS[:2]], label="label")
    return record(made), {copy.name: copy.content for copy in made}


@pytest.fixture
def parts(tmp_path):
    """The known key material in three components: record and files."""
    made = recovery_copies.seal_components(KeyMaterial(KNOWN), [key.public_key() for key in KEYS], label="label")
    return record(made, "split"), {copy.name: copy.content for copy in made}


@pytest.fixture
def pem(tmp_path):
    """Return the path of a private key's file."""
    return lambda number, password=b"": str(
        put(tmp_path / f"{number}.pem", private_pem(KEYS[number], password), mode=0o600)
    )


def reader(files):
    """Read a backup, or raise as a run does."""

    def read(name):
        if name not in files:
            raise ArtefactMissing(f"{name} cannot be read")
        return files[name]

    return read


def material(record, files, **sources):
    with opened(record, read=reader(files), sources=RecoverySources(**sources)) as found:
        return bytes(found)


def test_the_defaults_ask_for_a_pin_and_read_binary():
    """Nothing is provided; a file is 32 raw bytes."""
    nothing = RecoverySources()
    assert ((), "", (), "", "binary", "", "prompt") == (
        nothing.private_keys, nothing.password_from, nothing.components, nothing.material_file, nothing.encoding,
        nothing.pkcs11_module, nothing.pin_from,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sources", "files"),
    [
        ({}, False),
        ({"pkcs11_module": "m", "pin_from": "env:PIN", "password_from": "env:P"}, False),
        ({"private_keys": ("k",)}, True),
        ({"components": ("c",)}, True),
        ({"material_file": "f"}, True),
    ],
)
def test_a_token_is_used_only_where_no_file_is_provided(sources, files):
    """A key, a component or a file comes before the token; without a module, and for another source, no token is used."""
    assert files is RecoverySources(**sources).has_files
    token = record([], "hsm").model_copy(update={"source": "pkcs11"})
    module = {"pkcs11_module": "m", **sources}
    assert open_recovery_copy._in_token(token, RecoverySources(**module)) is not files
    assert open_recovery_copy._in_token(record([], "hsm"), RecoverySources(**module)) is False
    assert open_recovery_copy._in_token(token, RecoverySources(**{**sources, "pkcs11_module": ""})) is False


def test_the_token_is_found_by_its_recorded_labels():
    """Module and PIN source are the operator's, the labels the record's; an empty PIN source means a prompt."""
    facts = {"hsm": {"token_label": "token", "key_label": "key"}}
    token = recovery_copies.record(
        custody="hsm", source="pkcs11", key_check_value="", copies=[], made_at=datetime(2026, 1, 1, tzinfo=UTC), **facts
    )
    for pin, expected in (("env:PIN", "env:PIN"), ("", "prompt")):
        found = open_recovery_copy._token(token, RecoverySources(pkcs11_module="m.so", pin_from=pin))
        assert ("m.so", "token", "key", expected) == (found.module, found.token_label, found.key_label, found.pin_from)


@pytest.mark.parametrize(
    ("recorded", "found", "said"),
    [
        ("1a0b2d", "1a0b2d", ""),
        ("", "1a0b2d", ""),
        ("1a0b2d", "", ""),
        ("1a0b2d", "377822", "key check value 377822, recorded is 1a0b2d"),
    ],
)
def test_another_key_check_value_is_said_and_an_unknown_one_is_not(recorded, found, said):
    """The hint warns only where both are known."""
    assert said == differs(record([], check_value=recorded), found)


@pytest.mark.parametrize("number", [0, 1])
def test_each_recovery_key_opens_its_backup(kept, pem, number):
    """Whichever is recorded first; the check returns the key check value."""
    assert KNOWN == material(*kept, private_keys=(pem(number),))
    sources = RecoverySources(private_keys=(pem(number),))
    assert CHECK_VALUE == check_opens(kept[0], read=reader(kept[1]), sources=sources)


def test_key_material_is_overwritten_when_the_block_ends(kept, pem):
    """Also what `opened` yields."""
    with opened(kept[0], read=reader(kept[1]), sources=RecoverySources(private_keys=(pem(0),))) as found:
        assert KNOWN == bytes(found)
    with pytest.raises(ValueError, match="was overwritten"):
        bytes(found)


def test_a_foreign_key_opens_nothing_and_the_error_names_those_that_do(kept, pem):
    """The SHA-256 of the key provided, and of each that is wanted."""
    with pytest.raises(RecoverySourceInvalid) as refused:
        material(*kept, private_keys=(pem(2),))
    assert f"{NAMES[2][:8]}…" in str(refused.value)
    assert str(refused.value).endswith(f"provide one of {NAMES[0][:8]}, {NAMES[1][:8]}")


def test_the_second_key_is_tried_when_the_first_does_not_open(kept, pem):
    """A foreign key, an unreadable file and a wrong password do not stop the search."""
    assert KNOWN == material(*kept, private_keys=(pem(2), pem(1)))
    assert KNOWN == material(*kept, private_keys=("/nowhere.pem", pem(1)))


def test_a_damaged_and_a_missing_backup_are_told_apart(kept, pem):
    """The error is that of the backup recorded for the key, also if it is not the first; others do not hide it."""
    record, files = kept
    (first, second) = files
    for number, name in ((0, first), (1, second)):
        with pytest.raises(EncryptedKeyMaterialInvalid, match="damaged"):
            material(record, {**files, name: bytes(256)}, private_keys=(pem(number),))
        with pytest.raises(ArtefactMissing, match=name):
            material(record, {other: files[other] for other in files if other != name}, private_keys=(pem(number),))


def test_a_backup_under_another_name_than_recorded_opens(kept, pem):
    """The record is not authenticated: two files whose names were exchanged, or one that is lost, keep nothing from opening."""
    record, files = kept
    (first, second) = files
    assert KNOWN == material(record, {first: files[second], second: files[first]}, private_keys=(pem(0),))
    assert KNOWN == material(record, {second: files[first]}, private_keys=(pem(0),))


def test_several_keys_that_open_nothing_are_each_named(kept, pem):
    """One reason per key; a single key's own error is raised as it is."""
    with pytest.raises(RecoverySourceInvalid, match="none of the 2 private keys opens a backup: ") as refused:
        material(*kept, private_keys=(pem(2), "/nowhere.pem"))
    assert "/nowhere.pem" in str(refused.value)
    with pytest.raises(RecoverySourceInvalid, match="no recovery private key was provided") as refused:
        material(*kept)
    assert str(refused.value).endswith(f"{NAMES[0][:8]}, {NAMES[1][:8]}")


def test_a_password_is_read_where_it_is_said(kept, parts, pem, monkeypatch):
    """For a backup and for a component; without it the key does not open."""
    monkeypatch.setenv("RECOVERY", "open sesame")
    files = tuple(pem(number, b"open sesame") for number in range(3))
    assert KNOWN == material(*kept, private_keys=files[:1], password_from="env:RECOVERY")  # noqa: S106
    assert KNOWN == material(*parts, private_keys=files, password_from="env:RECOVERY")  # noqa: S106
    for made in (kept, parts):
        with pytest.raises(RecoveryKeyInvalid, match="encrypted"):
            material(*made, private_keys=files[:1])


# Components ---------------------------------------------------------------------------------------------------


def test_the_custodians_keys_together_open_the_components(parts, pem):
    """In any order, and all of them: who is missing is counted and named."""
    assert KNOWN == material(*parts, private_keys=(pem(2), pem(0), pem(1)))
    with pytest.raises(RecoverySourceInvalid, match="1 of 3 components are missing") as refused:
        material(*parts, private_keys=(pem(0), pem(2)))
    assert str(refused.value).endswith(f"private keys of {NAMES[1][:8]} too")
    with pytest.raises(RecoverySourceInvalid, match="3 of 3 components are missing"):
        material(*parts)


def test_opened_components_are_overwritten(parts, pem, monkeypatch):
    """Whether the material was combined or one was missing."""
    seen = []
    open_any = recovery_copies.open_any_copy
    monkeypatch.setattr(recovery_copies, "open_any_copy", lambda *words: seen.append(open_any(*words)) or seen[-1])
    material(*parts, private_keys=tuple(map(pem, range(3))))
    with pytest.raises(RecoverySourceInvalid):
        material(*parts, private_keys=(pem(0),))
    assert len(seen) == 4
    for part in seen:
        with pytest.raises(ValueError, match="was overwritten"):
            bytes(part)


def test_component_files_and_a_material_file_come_first(kept, tmp_path, monkeypatch):
    """What the operator provides in clear is used before any backup; `~` is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "whole", KNOWN)
    assert KNOWN == material(*kept, material_file="~/whole", components=("none",))
    put(tmp_path / "hex", KNOWN.hex().encode())
    assert KNOWN == material(*kept, material_file=str(tmp_path / "hex"), encoding="hex")
    one = bytes(range(100, 132))
    other = bytes(a ^ b for a, b in zip(one, KNOWN, strict=True))
    paths = tuple(str(put(tmp_path / f"part-{number}", part)) for number, part in enumerate((one, other)))
    assert KNOWN == material(*kept, components=paths, private_keys=("none",))
    assert bytes(32) == material(*kept, material_file=str(put(tmp_path / "zero", bytes(32))))  # was imported before


@pytest.mark.parametrize(
    ("custody", "words"),
    [("hsm", "is in the HSM token"), ("file", "was destroyed or moved"), ("none", "has no key material backup")],
)
def test_custody_without_a_backup_says_where_the_key_material_is(custody, words):
    """And how to provide it."""
    with pytest.raises(RecoverySourceInvalid, match=words) as refused:
        material(record([], custody), {}, private_keys=("k",))
    assert "--hand-over" in str(refused.value)


@pytest.mark.parametrize("custody", ["hsm", "file", "none"])
def test_backups_are_used_whatever_the_custody_is_called(kept, pem, custody):
    """An HSM's key can be backed up to recovery keys too."""
    held = kept[0].model_copy(update={"kind": custody})
    assert KNOWN == material(held, kept[1], private_keys=(pem(0),))


@pytest.mark.parametrize(
    ("custody", "words"), [("recovery_key", "no recovery private key"), ("split", "not all of them")]
)
def test_a_record_whose_backups_were_struck_out_asks_for_keys(custody, words):
    """No file is named: no key can open one."""
    with pytest.raises(RecoverySourceInvalid, match=words):
        material(record([], custody), {})


# Algorithms, names and wrapping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1])
def test_a_backup_opens_by_either_hash_whatever_is_recorded(algorithm):
    """HSMs that know SHA-1 only wrote some; asked for one algorithm, the other does not open."""
    content = KEYS[0].public_key().encrypt(KNOWN, oaep(algorithm))
    assert KeyMaterial(KNOWN) == recovery_copies.open_any_copy(content, KEYS[0])
    assert KeyMaterial(KNOWN) == recovery_copies.open_copy(content, KEYS[0], algorithm=algorithm)
    (other,) = {RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1} - {algorithm}
    with pytest.raises(EncryptedKeyMaterialInvalid):
        recovery_copies.open_copy(content, KEYS[0], algorithm=other)
    with pytest.raises(EncryptedKeyMaterialInvalid):
        recovery_copies.open_any_copy(content, KEYS[1])


def test_names_and_records_of_backups_and_components_are_these(kept, parts):
    """Key, place and label are in the name; only a component has a check value of its own."""
    assert [f"KeyMaterial.recovery-{name[:8]}.label.bin" for name in NAMES[:2]] == list(kept[1])
    assert [f"KeyMaterial.component-{n}-of-3-{NAMES[n - 1][:8]}.label.bin" for n in (1, 2, 3)] == list(parts[1])
    assert NAMES == [holder.recovery_key_sha256 for holder in parts[0].holders]
    assert {RSAES_OAEP_SHA_256} == {holder.algorithm for holder in (*kept[0].holders, *parts[0].holders)}
    assert ["", ""] == [holder.component_check_value for holder in kept[0].holders]
    assert all("component_check_value" not in holder.model_fields_set for holder in kept[0].holders)
    for holder, key in zip(parts[0].holders, KEYS, strict=True):
        opened = recovery_copies.open_copy(parts[1][holder.file], key)
        assert 6 == len(holder.component_check_value)
        assert holder.component_check_value == opened.key_check_value


def test_an_hsms_copies_say_the_algorithm_that_wrapped_them():
    """The token is asked for each key with it."""
    asked = []
    (copy,) = recovery_copies.copies(
        [KEYS[0].public_key()],
        lambda key, algorithm: asked.append((key, algorithm)) or b"x",
        algorithm=RSAES_OAEP_SHA_1,
        label="label",
    )
    assert (b"x", RSAES_OAEP_SHA_1, NAMES[0]) == (copy.content, copy.algorithm, copy.recovery_key)
    assert [(NAMES[0], RSAES_OAEP_SHA_1)] == [(key_fingerprint(key), algorithm) for key, algorithm in asked]
    assert RSAES_OAEP_SHA_1 == copy.as_holder(training_only=True).algorithm


def test_the_label_is_key_id_and_check_value_or_the_set():
    """A token without a key check value is told apart by what it encrypted (SHA-256 of `abc`)."""
    assert "0f1c2a3b-0000-4000-8000-000000000000.1a0b2d" == recovery_copies.label_of(ARN, "1a0b2d", b"")
    assert "0f1c2a3b-0000-4000-8000-000000000000.set-ba7816bf" == recovery_copies.label_of(ARN, "", b"abc")
    assert "k.1a0b2d" == recovery_copies.label_of("arn:aws:kms:eu-west-2:1:key/x/k", "1a0b2d", b"")


@pytest.mark.parametrize("number", [2, 9])
def test_the_fewest_and_the_most_components_are_allowed(number):
    """Each of 32 random bytes."""
    made = recovery_copies.split(KeyMaterial(KNOWN), number)
    assert number == len(made)
    assert KeyMaterial(KNOWN) == recovery_copies.combine(made)


def test_a_component_provided_twice_is_found_wherever_it_stands():
    """First and last, and side by side at the end."""
    one, two, three = recovery_copies.split(KeyMaterial(KNOWN), 3)
    for given in ([one, two, three, one], [one, two, two], [one, one]):
        with pytest.raises(RecoverySourceInvalid, match="provided twice"):
            recovery_copies.combine(given)


@pytest.mark.parametrize("algorithm", [RSAES_OAEP_SHA_256, RSAES_OAEP_SHA_1])
def test_what_is_opened_is_wrapped_for_the_new_import(kept, pem, algorithm):
    """To the wrapping key of the import parameters, with their algorithm; the check value comes with it."""
    wrapping_key = private_key(3072, 9)
    wrapping = Wrapping(public_der(wrapping_key), algorithm, "RSA_3072", ARN)
    encrypted, check_value = open_recovery_copy.wrap(
        kept[0], wrapping, read=reader(kept[1]), sources=RecoverySources(private_keys=(pem(1),))
    )
    assert CHECK_VALUE == check_value
    unwrapped = decrypt_key_material(encrypted, private_key=wrapping_key, wrapping_algorithm=algorithm)
    assert KeyMaterial(KNOWN) == unwrapped


# A key inside a token ----------------------------------------------------------------------------------------


@pytest.fixture
def token(monkeypatch):
    """A custody record of a token, and what the token is asked for."""
    asked = []

    @contextmanager
    def open_key(where, *, create):
        asked.append((where.module, where.token_label, where.key_label, where.pin_from, create))
        yield SimpleNamespace(
            key_check_value=CHECK_VALUE,
            encrypt_to=lambda key, algorithm: asked.append((key_fingerprint(key), algorithm)) or b"wrapped",
        )

    monkeypatch.setattr(pkcs11, "open_key", open_key)
    made = recovery_copies.record(
        custody="hsm", source="pkcs11", key_check_value=CHECK_VALUE, copies=[], made_at=datetime(2026, 1, 1, tzinfo=UTC),
        hsm={"token_label": "token", "key_label": "key"},
    )  # fmt: skip
    return made, asked


TOKEN = RecoverySources(pkcs11_module="m.so", pin_from="env:PIN")


def test_a_key_in_a_token_is_wrapped_there_and_never_created(token):
    """A recovery that made a new key in the token would wrap other key material."""
    made, asked = token
    wrapping = Wrapping(public_der(KEYS[2]), RSAES_OAEP_SHA_1, "RSA_2048", ARN)
    wrapped = open_recovery_copy.wrap(made, wrapping, read=reader({}), sources=TOKEN)
    assert (b"wrapped", CHECK_VALUE) == wrapped
    assert [("m.so", "token", "key", "env:PIN", False), (NAMES[2], RSAES_OAEP_SHA_1)] == asked
    assert CHECK_VALUE == check_opens(made, read=reader({}), sources=TOKEN)
    assert ("m.so", "token", "key", "env:PIN", False) == asked[-1]


def test_a_token_wraps_to_a_key_of_the_recorded_size_only(token):
    """The wrapping key is looked at before the token is opened."""
    made, asked = token
    wrapping = Wrapping(public_der(KEYS[2]), RSAES_OAEP_SHA_1, "RSA_3072", ARN)
    with pytest.raises(WrappingKeyInvalid, match="has 2048 bits, RSA_3072 was requested"):
        open_recovery_copy.wrap(made, wrapping, read=reader({}), sources=TOKEN)
    assert [] == asked
