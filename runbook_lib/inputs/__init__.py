"""What each step asks for: one frozen model per step, with types, limits, labels and help."""

from runbook_lib.inputs.base import Inputs
from runbook_lib.inputs.cut_over import CutOverInputs
from runbook_lib.inputs.kms import (
    CreateKeyInputs,
    EncryptKeyMaterialInputs,
    GetParametersForImportInputs,
    ImportKeyMaterialInputs,
    RotateKeyMaterialInputs,
)
from runbook_lib.inputs.rds import CleanUpInputs, CreateClusterInputs, VerifyEncryptionInputs
from runbook_lib.inputs.recovery import RecoveryDrillInputs
from runbook_lib.inputs.start import StartInputs
from runbook_lib.inputs.watch import WatchKeyInputs

__all__ = [
    "CleanUpInputs",
    "CreateClusterInputs",
    "CreateKeyInputs",
    "CutOverInputs",
    "EncryptKeyMaterialInputs",
    "GetParametersForImportInputs",
    "ImportKeyMaterialInputs",
    "Inputs",
    "RecoveryDrillInputs",
    "RotateKeyMaterialInputs",
    "StartInputs",
    "VerifyEncryptionInputs",
    "WatchKeyInputs",
]
