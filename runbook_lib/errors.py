"""One class per condition that stops a runbook, each ending with what to do next.

`RunbookError` is the root: catch it, never raise it. A message names the value, the rule and the way out in
one line, and never holds a secret. This module knows nothing of AWS, notebooks or files.
"""

from __future__ import annotations

from collections.abc import Sequence


class RunbookError(Exception):
    """Root of all errors that this package raises on purpose; never raised itself."""

    def _render_traceback_(self) -> list[str]:
        """Show one readable line in a notebook; the cell, and with it the run, still fails."""
        return [f"{type(self).__name__}: {self}"]


# Inputs ----------------------------------------------------------------------------------------------


class InputError(RunbookError):
    """A parameter is wrong in itself; nothing was called.

    `problems` holds one `(field, message)` pair per wrong field.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{field}: {message}" for field, message in self.problems))


class UnknownParameter(InputError):
    """A parameter's name is not one that any notebook takes."""


class ParameterFileError(RunbookError):
    """A parameter file is missing, unreadable, or not one flat YAML mapping."""


class ParameterChanged(RunbookError):
    """A run was continued with other parameters than its finished steps were made with."""


# The run folder --------------------------------------------------------------------------------------


class RunsFolderUnknown(RunbookError):
    """No checkout and no --runs-dir says where runs lie."""


class RunNotFound(RunbookError):
    """There is no run of that id in the runs folder."""


class RunDamaged(RunbookError):
    """state.json cannot be read as a run's state."""


class RunFormatTooNew(RunbookError):
    """state.json was written by a newer version of this package."""


class RunNotWritable(RunbookError):
    """The run folder cannot be written: permissions, a full disk, or it has gone."""


class RunLocked(RunbookError):
    """Another process is working on this run."""


class StepMissing(RunbookError):
    """A step needs the record of an earlier one that has not finished."""


class ArtefactMissing(RunbookError):
    """A file that an earlier step left in the run folder is gone or unreadable."""


# The target ------------------------------------------------------------------------------------------


class WrongAccount(RunbookError):
    """The caller's AWS account is not the one that the run is fixed to."""


class WrongRegion(RunbookError):
    """A Region is unknown, off, or not the one that the run is fixed to."""


class WrongEndpoint(RunbookError):
    """A call was about to leave for a host that the run's target does not allow."""


class NoCredentials(RunbookError):
    """AWS credentials are missing or have expired."""


class AccessDenied(RunbookError):
    """The caller lacks the permission for an AWS action."""


class SandboxUnavailable(RunbookError):
    """The sandbox cannot be started here, or does not answer."""


class SandboxGone(RunbookError):
    """The sandbox that this run was made in has ended, and its resources with it."""


class AwsCallFailed(RunbookError):
    """AWS answered a call with an error that no better word exists for."""


# Key material ----------------------------------------------------------------------------------------


class KeyMaterialLength(RunbookError):
    """Key material is not exactly 32 bytes."""


class KeyMaterialEncoded(RunbookError):
    """A file holds base64, hex or text where raw bytes are expected."""


class KeyMaterialWiped(RunbookError):
    """Key material was used after it had been overwritten."""


class KeyMaterialFileUnsafe(RunbookError):
    """A key material file is not a regular file, or others than its owner may read it."""


class WrappingAlgorithmRefused(RunbookError):
    """The wrapping algorithm cannot wrap the material of a symmetric KMS key."""


class WrappingKeyInvalid(RunbookError):
    """The wrapping public key is not an RSA public key of the expected size."""


class EncryptedKeyMaterialInvalid(RunbookError):
    """EncryptedKeyMaterial.bin cannot be what the wrapping key makes, or does not open."""


class RecoveryKeyInvalid(RunbookError):
    """A recovery public key is not an RSA public key of at least 2048 bits in PEM form."""


class RecoveryKeyRepeated(RunbookError):
    """Two recovery keys are one and the same: the second copy would protect nothing further."""


class RecoveryCopyUnknown(RunbookError):
    """No custody file of the set opens with the private keys, components or token that were brought."""


class ComponentsIncomplete(RunbookError):
    """Components of split key material are missing, repeated, or of another set."""


class PassPhraseMissing(RunbookError):
    """A PIN or password is not where it was said to be, or there is nobody to ask."""


class HsmUnavailable(RunbookError):
    """The PKCS#11 module, token or key is not there, or the token refuses the PIN."""


class HsmIncapable(RunbookError):
    """The token cannot do what the wrapping algorithm asks of it."""


class PlaintextRefused(RunbookError):
    """The material would lie in clear on a disk, and nobody said that it may."""


class HandOverInvalid(RunbookError):
    """A hand-over bundle, or what came back from it, is damaged, expired, or of another run."""


class MaterialNotProved(RunbookError):
    """What was recovered is not the material that the KMS key had."""


class CustodyMissing(RunbookError):
    """Nothing keeps the original key material and nobody accepted that."""


class ArtefactsMismatch(RunbookError):
    """Files of different sets were mixed: wrapping key, token, encrypted material, custody."""


class ImportTokenExpired(RunbookError):
    """The wrapping key and import token are older than 24 hours."""


class ImportRefused(RunbookError):
    """KMS refused the import; the message says which of the parts was wrong."""


# Planning, applying, verifying -----------------------------------------------------------------------


class PolicyInvalid(RunbookError):
    """A key policy or IAM policy would not do what it says."""


class PreflightFailed(RunbookError):
    """Something that a later step needs is not there; nothing was created."""


class PlanRefused(RunbookError):
    """A plan holds a change that must not be made: what is there differs from what was asked."""


class PlanOutdated(RunbookError):
    """The form was edited, or another step run, after the plan was shown; what is applied is what was shown, or nothing."""


class KeyNotUsable(RunbookError):
    """The KMS key cannot encrypt a cluster: wrong state, Region, kind or origin."""


class OutcomeUnclear(RunbookError):
    """A create was sent, no answer came, and looking does not tell yet whether it took effect."""


class WaitFailed(RunbookError):
    """A cluster or instance is in a state from which it cannot become available by itself."""


class WaitTimedOut(RunbookError):
    """A cluster or instance did not become available within the limit."""


class VerificationFailed(RunbookError):
    """At least one claim about what was made is not true."""


class PracticeFailed(RunbookError):
    """An exercise met another answer than AWS is documented to give."""


class NotConfirmed(RunbookError):
    """A deletion was asked for without, or with another, confirmation."""


class StepFailed(RunbookError):
    """A step of a headless run stopped. `run_id` names the run to go on with, `output` the notebook, if one was begun."""

    def __init__(self, run_id: str, step: str, reason: str, output: str) -> None:
        self.run_id = run_id
        super().__init__(f"{step}: {reason}" + (f"\n  the executed notebook is {output}" if output else ""))


# JupyterLab --------------------------------------------------------------------------------------------------


class Interrupted(RunbookError):
    """A person interrupted a wait."""


class LabNotInstalled(RunbookError):
    """JupyterLab is an extra, and it is not there."""


class LabFailed(RunbookError):
    """JupyterLab did not start, or ended by itself."""


class PortTaken(RunbookError):
    """Another process listens on the port that was asked for."""
