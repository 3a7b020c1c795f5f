"""SoftHSM 2, a PKCS#11 token in software: real tokens in a folder of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

MODULE = next((str(path) for path in Path("/usr/lib").glob("**/libsofthsm2.so")), "")
PIN, WRONG_PIN = "271828", "314159"
INSTALLED = bool(MODULE) and shutil.which("softhsm2-util") is not None


def make_tokens(folder: Path, *labels: str, pin: str = PIN) -> Path:
    """Make a token of each label; return the configuration that SOFTHSM2_CONF must name."""
    tokens = folder / "tokens"
    tokens.mkdir(mode=0o700)
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    for label in labels:
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "161803"],
            env={**os.environ, "SOFTHSM2_CONF": str(conf)},
            check=True,
            capture_output=True,
        )
    return conf


def choices(**more: object) -> dict[str, object]:
    """Return the choices of 03 for the token `ceremony`."""
    return {
        "key_material_source": "pkcs11",
        "pkcs11_module": MODULE,
        "pkcs11_token_label": "ceremony",
        "pkcs11_pin_from": "env:TOKEN_PIN",
        "custody": "hsm",
        **more,
    }
