"""The custody text, kept with the backups: how to open, check and reimport key material with openssl and the AWS CLI only."""

from __future__ import annotations

from runbook_lib.material.custody_record import CustodyRecord
from runbook_lib.material.key_material import RSAES_OAEP_SHA_256
from runbook_lib.material.openssl_commands import CHECK, WHICH, open_command, openssl_digest
from runbook_lib.material.recovery_copies import PLAINTEXT

XOR = (
    "python3 -c 'import sys; from functools import reduce; from operator import xor\n"
    'columns = zip(*[open(name, "rb").read() for name in sys.argv[1:]], strict=True)\n'
    "sys.stdout.buffer.write(bytes(reduce(xor, column) for column in columns))' component-*.bin > PlaintextKeyMaterial.bin"
)


def name_of(label: str) -> str:
    """Return the file name for the set with this label (`recovery_copies.label_of`)."""
    return f"CUSTODY.{label}.txt"


def custody_readme(record: CustodyRecord, *, key_arn: str) -> str:
    """Return the custody text for a custody record; it holds no secret, and following it needs no runbook."""
    parts = [
        "Custody of key material imported into AWS KMS",
        _head(record, key_arn),
        {"recovery_key": _copies, "split": _components, "hsm": _token, "file": _plaintext, "none": _none}[record.kind](
            record
        ),
        _check(record),
        _again(key_arn),
    ]
    return "\n\n".join(parts) + "\n"


def _head(record: CustodyRecord, key_arn: str) -> str:
    return (
        f"KMS key          {key_arn}\n"
        f"Key check value  {record.key_check_value or 'unknown: the key material was wrapped elsewhere'}\n"
        f"Created          {record.made_at}, source {record.source}\n"
        f"Custody          {record.kind}\n\n"
        "KMS never returns key material. If the key material expires or is deleted and you have no backup, the database\n"
        "is lost. Keep these files in at least two places, apart from the private keys that open them, and test once\n"
        "a year that they still open."
    )


def _holders(record: CustodyRecord, *, out: str) -> str:
    lines = []
    for number, holder in enumerate(record.holders, 1):
        training = "  TRAINING ONLY: protects nothing real" if holder.training_only else ""
        check = f", check value {holder.component_check_value}" if holder.component_check_value else ""
        command = open_command(holder.file, algorithm=holder.algorithm, out=out.format(number))
        lines.append(
            f"{holder.file}{check}{training}\n  for recovery key SHA-256 {holder.recovery_key_sha256}\n{command}"
        )
    return "\n\n".join(lines)


_UMASK = "umask 077"


def _copies(record: CustodyRecord) -> str:
    return (
        "To open a backup (any one of them), on a machine without network, with openssl 1.1.1 or newer:\n\n"
        f"{_UMASK}\n{_holders(record, out=PLAINTEXT)}\n\n{WHICH}"
    )


def _components(record: CustodyRecord) -> str:
    number = len(record.holders)
    return (
        f"The key material is the XOR of {number} components; all of them are needed. Each custodian opens one, with openssl\n"
        f"1.1.1 or newer:\n\n"
        f"{_UMASK}\n{_holders(record, out='component-{}.bin')}\n\n"
        f"Then combine the components on one machine, in any order:\n\n{XOR}\n\n{WHICH}"
    )


def _token(record: CustodyRecord) -> str:
    token = record.hsm.model_dump() if record.hsm else {}
    return (
        f"The key material is in the HSM token {token['token_label']!r} (serial {token['token_serial']}), under the key label\n"
        f"{token['key_label']!r}, and was never outside it in clear. No file here can replace the token: keep its backup."
    )


def _plaintext(record: CustodyRecord) -> str:
    kept = "kept after the import on purpose" if record.keep_plaintext_file else "destroyed after the import"
    return f"The key material is in clear in {PLAINTEXT}, for training only. The file is {kept}."


def _none(record: CustodyRecord) -> str:
    return "No backup was created here. It is kept where the key material was created, or there is none."


def _check(record: CustodyRecord) -> str:
    if not record.key_check_value:
        return (
            "The key check value is unknown here. To compute it where the key material is, with openssl 3:\n\n" + CHECK
        )
    return (
        f"To check the key material, with openssl 3 (other users of the machine can see the command line, so there must be\n"
        f"none). The output must be {record.key_check_value.upper()}:\n\n{CHECK}"
    )


def _again(key_arn: str) -> str:
    digest = openssl_digest(RSAES_OAEP_SHA_256)
    return (
        "To import it again, run: runbook recover RUN. Or use the AWS CLI with credentials for the account of the KMS key:\n\n"
        f"aws kms get-parameters-for-import --key-id {key_arn} \\\n"
        f"  --wrapping-algorithm {RSAES_OAEP_SHA_256} --wrapping-key-spec RSA_4096 --output text \\\n"
        "  --query '[PublicKey,ImportToken]' | tr '\\t' '\\n' > parameters.txt\n"
        "sed -n 1p parameters.txt | openssl base64 -d -A -out WrappingPublicKey.bin\n"
        "sed -n 2p parameters.txt | openssl base64 -d -A -out ImportToken.bin\n"
        f"openssl pkeyutl -encrypt -in {PLAINTEXT} -out EncryptedKeyMaterial.bin \\\n"
        "  -inkey WrappingPublicKey.bin -keyform DER -pubin -pkeyopt rsa_padding_mode:oaep \\\n"
        f"  -pkeyopt rsa_oaep_md:{digest} -pkeyopt rsa_mgf1_md:{digest}\n"
        f"aws kms import-key-material --key-id {key_arn} \\\n"
        "  --import-token fileb://ImportToken.bin --encrypted-key-material fileb://EncryptedKeyMaterial.bin \\\n"
        "  --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE\n"
        f"shred -u {PLAINTEXT}"
    )
