"""Measure step 03: the time of its cells without the kernel start, and wrapping compared with bare RSA encryption.

`python tools/custody_figures.py` prints both. Rounds are interleaved, figures are medians. Makes no network calls
beyond this machine.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from runbook_cli.environment import environment_variables
from runbook_lib.material.key_material import KeyMaterial, encrypt_key_material

MATERIALS, ROUNDS = 1000, 5


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def wrapping() -> str:
    """Wrap key material 1,000 times with RSA-4096: with the library, and with bare calls on a loaded key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=4096).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)

    def ours() -> None:
        for _ in range(MATERIALS):
            with KeyMaterial.generate() as material:
                encrypt_key_material(material, wrapping_public_key=der, wrapping_algorithm="RSAES_OAEP_SHA_256")

    def bare() -> None:
        for _ in range(MATERIALS):
            key.encrypt(os.urandom(32), oaep)

    pairs = [(_seconds(ours), _seconds(bare)) for _ in range(ROUNDS)]
    library, floor = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return (
        f"{MATERIALS} times wrapped with RSA-4096: {library:.3f} s with encrypt_key_material, {floor:.3f} s with bare "
        f"cryptography calls, ratio {ratio:.2f} (median of {ROUNDS} interleaved rounds)"
    )


def step_03() -> str:
    """Execute notebook 03 several times, each in a new kernel; measure its cells without the kernel start."""
    variables = {"RUNBOOK_ATTENDED": "0", "RUNBOOK_SANDBOX_ENDPOINT": None}
    with tempfile.TemporaryDirectory() as folder, environment_variables({**variables, "RUNBOOK_RUNS_DIR": folder}):
        from runbook_lib.aws import sandbox_process
        from runbook_lib.run.steps import CREATE_KEY, ENCRYPT_KEY_MATERIAL, GET_PARAMETERS_FOR_IMPORT, START

        _cells(START), _cells(CREATE_KEY), _cells(GET_PARAMETERS_FOR_IMPORT)
        # Alternate one choice, so that each round generates new key material. The first round creates the training key.
        rounds = [_cells(ENCRYPT_KEY_MATERIAL, accept_no_custody=bool(number % 2)) for number in range(ROUNDS + 1)]
        sandbox_process.stop(Path(folder))
    first, median = rounds[0], statistics.median(rounds[1:])
    return (
        f"notebook 03, its cells: {median:.2f} s (median of {ROUNDS}); "
        f"{first:.2f} s in the first round, with a new training key"
    )


def _cells(name: str, **given: object) -> float:
    """Execute a notebook; return the seconds from the start of its first cell to the end of its last."""
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    from runbook_lib.run.paths import notebooks_folder

    notebook = nbformat.read(notebooks_folder() / f"{name}.ipynb", as_version=4)
    at = next(place for place, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    values = "\n".join(f"{key} = {value!r}" for key, value in {"exercises": False, **given}.items())
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(values))
    config = Config({"KernelManager": {"transport": "ipc"}})
    client = NotebookClient(notebook, kernel_name="python3", record_timing=False, config=config)
    with client.setup_kernel():
        began = time.perf_counter()
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        return time.perf_counter() - began


if __name__ == "__main__":
    print(wrapping())
    print(step_03())
    sys.exit(0)
