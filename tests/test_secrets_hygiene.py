"""No secret is written anywhere: every notebook, source and custody, failures, kills, debug logging; searched byte by byte."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from leaks import in_content, search
from openssl import oaep_options, openssl, private_key, private_pem, public_pem, put
from softhsm import INSTALLED, MODULE, make_tokens
from softhsm import PIN as TOKEN_PIN
from unwrap import decrypt_key_material

from runbook_lib.aws import sandbox_process
from runbook_lib.run.paths import notebooks_folder

ROOT = Path(__file__).parent.parent
KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
ASKED = "env:RECOVERY_PASSWORD"
PASSWORD = "quartz violin 83 meadow lantern"  # noqa: S105 - planted, to be found nowhere; in no text by chance

# The search itself ------------------------------------------------------------------------------------------------

LOOKS = {
    "raw": lambda secret: secret,
    "hex": lambda secret: secret.hex().encode(),
    "HEX": lambda secret: secret.hex().upper().encode(),
    "hex in lines": lambda secret: "\n".join(secret.hex(" ", 4).split()).encode(),
    "hex with colons": lambda secret: secret.hex(":").encode(),
    "base64": base64.b64encode,
    "base64 in a longer text": lambda secret: base64.b64encode(b"x" + secret + b"yz"),
    "base64 two further": lambda secret: base64.b64encode(b"xy" + secret),
    "base64 in lines": lambda secret: base64.encodebytes(b"before it " * 9 + secret),
    "base64 for URLs": base64.urlsafe_b64encode,
    "URL": lambda secret: quote_from_bytes(secret).encode(),
    "Python": lambda secret: repr(secret).encode(),
    "a list": lambda secret: json.dumps(list(secret)).encode(),
    "an indented list": lambda secret: json.dumps(list(secret), indent=1).encode(),
    "JSON": lambda secret: json.dumps({"k": secret.decode("latin-1")}).encode(),
    "HTML": lambda secret: html.escape(secret.decode("latin-1")).encode(),
    "its first half": lambda secret: secret[:16].hex().encode(),
    "its last half": lambda secret: base64.b64encode(secret[16:]),
    "gzip": lambda secret: gzip.compress(b"some log\n" + secret),
}


@pytest.mark.parametrize("look", LOOKS)
def test_the_search_finds_a_secret_in_this_form(tmp_path, look):
    """Planted in a file of other things; the same file without it is clean."""
    (tmp_path / "clean").write_bytes(b"\x00log " + os.urandom(4096) + KNOWN[:8] + b" end")
    assert {} == search(tmp_path, [KNOWN])
    content = LOOKS[look](KNOWN)
    (tmp_path / "planted").write_bytes(content if look == "gzip" else b"\x00log " + content + b" end")
    assert [name for name in search(tmp_path, [KNOWN]) if name.startswith("planted")]
    assert {} == search(tmp_path, [bytes(reversed(KNOWN))])


def test_the_search_looks_into_archives_and_hidden_files(tmp_path):
    """Where a grep would not."""
    (tmp_path / ".hidden").mkdir()
    with zipfile.ZipFile(tmp_path / ".hidden" / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", KNOWN.hex() * 3)
    assert [".hidden/a.zip!inner"] == list(search(tmp_path, [KNOWN]))
    assert in_content(PASSWORD.encode(), [PASSWORD.encode()])


# Everything there is --------------------------------------------------------------------------------------------------


class Ground:
    """A folder that everything is written below: runs, home, temporary files, what was said, what was removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given, self.runs, self.said = (folder / name for name in ("given", "runs", "said"))
        for path in (self.given, self.runs, self.said, *(folder / name for name in ("home", "tmp", "graveyard"))):
            path.mkdir(mode=0o700)
        self.secrets = {KNOWN, PASSWORD.encode(), TOKEN_PIN.encode() * 2}
        jupyter = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "XDG_CACHE_HOME")
        self.environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_SANDBOX", "JUPYTER"))
            },
            **{name: str(folder / "home" / name.lower()) for name in jupyter},
            "PYTHONPATH": str(ROOT / "tests" / "watched"),
            "WATCHED_GRAVEYARD": str(folder / "graveyard"),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "RUNBOOK_RUNS_DIR": str(self.runs),
            "RUNBOOK_ATTENDED": "0",
            "RECOVERY_PASSWORD": PASSWORD,
            "TOKEN_PIN": TOKEN_PIN * 2,
        }
        for number in range(3):
            put(self.given / f"public-{number}.pem", public_pem(private_key(2048, number)))
            put(self.given / f"private-{number}.pem", private_pem(private_key(2048, number), PASSWORD.encode()))
        for name, content in {
            "raw": KNOWN, "hex": KNOWN.hex().encode(), "base64": base64.b64encode(KNOWN), "short": KNOWN[:31],
            "text": KNOWN.hex().encode()[:32], "long": KNOWN + b"\n",
        }.items():  # fmt: skip
            put(self.given / name, content)
        put(self.given / "open", KNOWN, 0o644)

    def path(self, name: str) -> str:
        return str(self.given / name)

    def do(self, *words: str, code: int | None = 0, **environment: str) -> str:
        """Run Python with these words; keep what it says where it is searched."""
        done = subprocess.run(
            [sys.executable, *words], env={**self.environment, **environment}, cwd=ROOT, capture_output=True, check=False,
            timeout=300,
        )  # fmt: skip
        text = done.stdout + done.stderr
        (self.said / f"{len(list(self.said.iterdir())):03}.txt").write_bytes(text)
        assert code in (None, done.returncode), text.decode()
        return text.decode()

    def runbook(self, *words: str, code: int | None = 0, **environment: str) -> str:
        return self.do("-m", "runbook_cli.main", *words, code=code, **environment)

    def notebook(
        self, name: str, *, code: int | None = 0, environment: dict[str, str] | None = None, **given: object
    ) -> str:
        """Execute one notebook of run `many`, by papermill's own command."""
        out = self.runs / "many" / "notebooks" / f"{name}-{len(list(self.said.iterdir()))}.ipynb"
        out.parent.mkdir(parents=True, exist_ok=True)
        words = [
            "-m",
            "papermill",
            str(notebooks_folder() / f"{name}.ipynb"),
            str(out),
            "--no-progress-bar",
            "--log-output",
        ]
        for key, value in {"run_id": "many", "exercises": False, **given}.items():
            words += ["-y", json.dumps({key: value})]
        return self.do(*words, code=code, **(environment or {}))

    def client(self, service: str) -> object:
        import boto3

        return boto3.client(
            service, endpoint_url=sandbox_process.ensure(self.runs).url, region_name="eu-west-2",
            aws_access_key_id="x", aws_secret_access_key="x",  # noqa: S106
        )  # fmt: skip

    def found(self) -> dict[str, set[str]]:
        return search(self.folder, self.secrets, given=[self.given])


@pytest.fixture
def ground(tmp_path, monkeypatch):
    monkeypatch.delenv("RUNBOOK_SANDBOX_ENDPOINT", raising=False)
    there = Ground(tmp_path)
    yield there
    sandbox_process.stop(there.runs)


def learn(ground, run_id):
    """Add what this run made itself to what is searched for: the generated material, and the master password."""
    folder = ground.runs / run_id
    state = json.loads((folder / "state.json").read_text())["steps"]
    copy = state["03_encrypt_key_material"]["record"]["custody"]["holders"][0]["file"]
    material = openssl("pkeyutl", "-decrypt", "-in", copy, "-inkey", "TRAINING-recovery-private-key.pem",
                       *oaep_options("sha256"), folder=folder)  # fmt: skip
    assert 32 == len(material)
    cluster = ground.client("rds").describe_db_clusters()["DBClusters"][0]
    secret = ground.client("secretsmanager").get_secret_value(SecretId=cluster["MasterUserSecret"]["SecretArn"])
    ground.secrets |= {material, json.loads(secret["SecretString"])["password"].encode()}


def learn_rotated(ground, run_id, key="TRAINING-recovery-private-key.pem"):
    """Add the generated key materials of all rotations to what is searched for; return how many there are."""
    copies = sorted((ground.runs / run_id / "materials").glob("*/KeyMaterial.recovery-*.bin"))
    for copy in copies:
        words = ("pkeyutl", "-decrypt", "-in", str(copy), "-inkey", key, *oaep_options("sha256"))
        material = openssl(*words, folder=ground.runs / run_id)
        assert 32 == len(material)
        ground.secrets.add(material)
    return len(copies)


@pytest.mark.slow
def test_a_whole_run_with_debug_logging_leaves_no_secret(ground):
    """00 to 06, a rotation, the drill, a recovery, the clean-up; boto3 logs every request. Nothing is found in much."""
    log = str(ground.folder / "debug.log")
    ground.runbook("run", "--run-id", "many", WATCHED_LOG=log)
    learn(ground, "many")
    assert "rotated: the key needs 2 key materials" in ground.runbook("rotate", "many", WATCHED_LOG=log)
    assert "kept" in ground.runbook("rotate", "many"), "repeated on the same day, it exits with 0 and keeps what exists"
    assert 1 == learn_rotated(ground, "many")
    ground.notebook("80_recovery_drill", environment={"WATCHED_LOG": log})
    assert 2 == ground.runbook("recover", "many", "--check").count("can be restored")
    ground.runbook("recover", "many", WATCHED_LOG=log)
    ground.runbook("status", "many", "--json")
    ground.runbook("evidence", "many", "--out", str(ground.folder / "evidence.zip"), "--sign", ground.path("private-0.pem"),
                   "--password-from", ASKED)  # fmt: skip
    ground.runbook("run", "--run-id", "many", "--kernel", "plain", WATCHED_LOG=log)
    ground.runbook("clean-up", "many", "--confirm", "aurora-byok", WATCHED_LOG=log)
    assert {} == ground.found()
    assert zipfile.is_zipfile(ground.folder / "evidence.zip")
    assert "EncryptedKeyMaterial" in Path(log).read_text()
    assert [path for path in (ground.folder / "graveyard").iterdir() if path.stat().st_size]


@pytest.mark.slow
def test_every_source_and_custody_and_every_failure_leaves_no_secret(ground):
    """One run, 03 again and again: what is refused, what dies on the way, what supersedes; then lost and recovered."""
    for name in ("00_start", "01_create_key", "02_get_parameters_for_import"):
        ground.notebook(name)
    third = "03_encrypt_key_material"
    keys = [ground.path(f"public-{number}.pem") for number in range(3)]
    raw = {"key_material_source": "file", "key_material_file": ground.path("raw")}

    for name, encoding in (("short", "binary"), ("long", "binary"), ("hex", "binary"), ("base64", "hex"), ("raw", "base64"),
                           ("text", "binary"), ("open", "binary")):  # fmt: skip
        said = ground.notebook(
            third,
            code=None,
            key_material_source="file",
            key_material_file=ground.path(name),
            key_material_encoding=encoding,
        )
        assert "PapermillExecutionError" in said
    for kill in ("custody.json", ".txt", "EncryptedKeyMaterial.bin", "PlaintextKeyMaterial.bin", "state.json"):
        chosen = {**raw, "custody": "file"} if kill.startswith("Plain") else {**raw, "recovery_public_keys": keys}
        ground.notebook(third, code=None, environment={"WATCHED_KILL": kill}, **chosen)
    ground.notebook(third, **raw, custody="split", recovery_public_keys=keys)
    ground.notebook(third, key_material_source="file", key_material_file=ground.path("hex"), key_material_encoding="hex",
                    custody="none", accept_no_custody=True)  # fmt: skip
    ground.notebook(third, **raw, custody="file")
    assert {"runs/many/PlaintextKeyMaterial.bin"} == set(ground.found()), "the one file that was asked for"
    ground.notebook(third, key_material_source="file", key_material_file=ground.path("base64"),
                    key_material_encoding="base64", recovery_public_keys=keys[:1])  # fmt: skip
    copy = next((ground.runs / "many").glob("KeyMaterial.recovery-*.bin"))
    shutil.copy(copy, ground.given / "copy.bin")
    recovery = {"key_material_source": "recovery", "key_material_file": ground.path("copy.bin"),
                "recovery_private_key": ground.path("private-0.pem")}  # fmt: skip
    ground.notebook(third, code=None, **recovery, recovery_public_keys=keys[:1])  # no password
    wrong = {**recovery, "recovery_private_key": ground.path("private-1.pem")}
    ground.notebook(third, code=None, **wrong, recovery_password_from=ASKED)
    ground.notebook(third, **recovery, recovery_password_from=ASKED, recovery_public_keys=keys[:2])

    ground.runbook("wrap", str(ground.runs / "many/hand-over.zip"), "--source", "file", "--file", ground.path("raw"),
                   "--recovery-public-key", keys[0], "--out", str(ground.folder / "there"))  # fmt: skip
    back = str(ground.folder / "there/hand-back.zip")
    ground.notebook(third, key_material_source="wrapped", key_material_file=back, custody="none")
    ground.notebook("04_import_key_material")

    key = json.loads((ground.runs / "many/state.json").read_text())["steps"]["01_create_key"]["record"]["key_id"]
    ground.client("kms").delete_imported_key_material(KeyId=key)
    ground.runbook("recover", "many", "--file", ground.path("short"), code=1)
    ground.runbook("recover", "many", "--private-key", ground.path("private-0.pem"), code=1)
    ground.runbook("recover", "many", "--private-key", ground.path("private-0.pem"), "--password-from",
                   "env:RECOVERY_PASSWORD", WATCHED_LOG=str(ground.folder / "debug.log"))  # fmt: skip
    assert {} == ground.found()


@pytest.mark.slow
def test_a_rotation_from_every_source_leaves_no_secret(ground):
    """A file, a backup of another place, a bundle from a machine without network; what is refused on the way, and the recovery."""
    ground.runbook("run", "--run-id", "many")
    learn(ground, "many")
    others = [os.urandom(32) for _ in range(3)]
    ground.secrets |= set(others)
    key, again = ground.path("public-0.pem"), ("-p", "min_days_between_rotations", "0")
    custody = ("-p", "recovery_public_keys", json.dumps([key]))
    put(ground.given / "second", others[0])
    given = ("-p", "key_material_source", "file", "-p", "key_material_file")
    ground.runbook("rotate", "many", *again, *custody, *given, ground.path("short"), code=1)
    ground.runbook("rotate", "many", *again, *custody, *given, ground.path("second"))
    copy = sealed(others[1], ground.given / "public-0.pem", ground.given / "third.bin")
    backup = ("-p", "key_material_source", "recovery", "-p", "key_material_file", copy, "-p", "recovery_private_key",
              ground.path("private-0.pem"))  # fmt: skip
    ground.runbook("rotate", "many", *again, *custody, *backup, code=1)  # no password
    ground.runbook("rotate", "many", *again, *custody, *backup, "-p", "recovery_password_from", ASKED)
    before = set((ground.runs / "many").rglob("hand-over*.zip"))
    ground.runbook("rotate", "many", "--hand-over")
    put(ground.given / "fourth", others[2])
    [bundle] = set((ground.runs / "many").rglob("hand-over*.zip")) - before
    ground.runbook("wrap", str(bundle), "--source", "file", "--file", ground.path("fourth"), "--recovery-public-key", key,
                   "--out", str(ground.folder / "there"))  # fmt: skip
    back = ("-p", "key_material_source", "wrapped", "-p", "custody", "none", "-p", "key_material_file")
    said = ground.runbook("rotate", "many", *again, *back, str(ground.folder / "there/hand-back.zip"))
    assert "rotated: the key needs 4 key materials" in said
    assert {} == ground.found()


def sealed(material, public, path):
    """Encrypt material to a recovery public key as somebody else's backup; return its path."""
    with tempfile.TemporaryDirectory() as outside:  # openssl reads a file, and this one is not searched
        (Path(outside) / "plain").write_bytes(material)
        words = ("pkeyutl", "-encrypt", "-pubin", "-inkey", str(public), "-in", str(Path(outside) / "plain"))
        path.write_bytes(openssl(*words, *oaep_options("sha256"), folder=Path(outside)))
    return str(path)


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="SoftHSM 2 is not installed (apt-get install softhsm2)")
def test_an_hsm_leaves_neither_its_key_nor_its_pin(ground):
    """The key is learnt by having the token wrap it to a key of the test's own; the token's own files are searched too."""
    conf = make_tokens(ground.folder / "home", "ceremony", pin=TOKEN_PIN * 2)
    ground.environment["SOFTHSM2_CONF"] = str(conf)
    for name in ("00_start", "01_create_key"):
        ground.notebook(name)
    ground.notebook("02_get_parameters_for_import", wrapping_algorithm="RSAES_OAEP_SHA_1")
    chosen = {
        "key_material_source": "pkcs11",
        "pkcs11_module": MODULE,
        "pkcs11_token_label": "ceremony",
        "custody": "hsm",
    }
    ground.notebook("03_encrypt_key_material", code=None, **chosen, pkcs11_pin_from="env:NOT_SET")
    ground.notebook("03_encrypt_key_material", code=None, **chosen, pkcs11_pin_from="env:RECOVERY_PASSWORD")
    ground.notebook("03_encrypt_key_material", **chosen, pkcs11_pin_from="env:TOKEN_PIN")
    ground.notebook("04_import_key_material")
    again = {**chosen, "pkcs11_key_label": "second", "pkcs11_pin_from": "env:TOKEN_PIN"}
    ground.notebook("20_rotate_key_material", code=None, **{**again, "pkcs11_pin_from": "env:RECOVERY_PASSWORD"})
    ground.notebook("20_rotate_key_material", **again)
    code = (
        "import sys; from runbook_lib.material import pkcs11; from cryptography.hazmat.primitives import serialization as s\n"
        "from runbook_lib.inputs.kms import EncryptKeyMaterialInputs as Inputs; import json\n"
        "public = s.load_pem_public_key(open(sys.argv[1], 'rb').read())\n"
        "with pkcs11.open_key(Inputs.check(json.loads(sys.argv[2])).request().token, create=False) as key:\n"
        "    open(sys.argv[3], 'wb').write(key.encrypt_to(public, 'RSAES_OAEP_SHA_1'))\n"
    )
    for chosen_key in ({**chosen, "pkcs11_pin_from": "env:TOKEN_PIN"}, again):
        ground.do("-c", code, ground.path("public-0.pem"), json.dumps(chosen_key), ground.path("wrapped"))
        wrapped = (ground.given / "wrapped").read_bytes()
        material = decrypt_key_material(wrapped, private_key=private_key(2048), wrapping_algorithm="RSAES_OAEP_SHA_1")
        ground.secrets.add(bytes(material))
    assert 5 == len(ground.secrets), "two key materials beside what was planted"
    assert {} == ground.found()


@pytest.mark.slow
def test_a_page_that_somebody_clicks_through_and_saves_leaves_no_secret(ground):
    """With forms drawn and their state stored, as JupyterLab saves it, and the checkpoint that the server makes."""
    for name in ("00_start", "01_create_key", "02_get_parameters_for_import"):
        ground.notebook(name)
    code = (
        "import sys, nbformat; from nbclient import NotebookClient\n"
        "book = nbformat.read(sys.argv[1], 4)\n"
        "cell = next(c for c in book.cells if 'parameters' in c.metadata.get('tags', []))\n"
        'cell.source += \'\\nrun_id = "many"\\nexercises = False\\nkey_material_source = "file"\\n\' + sys.argv[3]\n'
        "NotebookClient(book, store_widget_state=True, kernel_name='python3').execute()\n"
        "nbformat.write(book, sys.argv[2])\n"
        "from jupyter_server.services.contents.largefilemanager import LargeFileManager\n"
        "import pathlib; page = pathlib.Path(sys.argv[2])\n"
        "LargeFileManager(root_dir=str(page.parent)).create_checkpoint(page.name)\n"
    )
    page = ground.runs / "many" / "notebooks" / "page.ipynb"
    given = f"key_material_file = {ground.path('raw')!r}\n"
    source = str(notebooks_folder() / "03_encrypt_key_material.ipynb")
    ground.do("-c", code, source, str(page), given, RUNBOOK_ATTENDED="1")
    assert "application/vnd.jupyter.widget-state+json" in page.read_text()
    assert list(ground.runs.rglob(".ipynb_checkpoints/*"))
    assert {} == ground.found()


@pytest.mark.slow
def test_the_suite_finds_a_leak_when_there_is_one(ground):
    """The twin: with the key check value made the whole key, notebook, state, record and output are all found."""
    for name in ("00_start", "01_create_key", "02_get_parameters_for_import"):
        ground.notebook(name)
    assert {} == ground.found()
    ground.notebook("03_encrypt_key_material", key_material_source="file", key_material_file=ground.path("raw"),
                    environment={"WATCHED_LEAK": "1"})  # fmt: skip
    found = set(ground.found())
    assert {"runs/many/state.json", "runs/many/custody.json"} <= found
    assert [name for name in found if name.startswith("runs/many/CUSTODY.")]
    assert [name for name in found if name.startswith("runs/many/notebooks/")]
    assert [name for name in found if name.startswith("said/")]
    assert [name for name in found if name.startswith("graveyard/")]
