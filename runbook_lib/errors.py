"""One class per condition that stops a runbook and that a caller, a test or a reader acts on.

`RunbookError` is the root: catch it, never raise it. A message names the value, the rule and what to do next in one
line, and never holds a secret. Bad input is a `ValueError` too. This module knows nothing of AWS, notebooks or files.
"""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.texts import visible


class RunbookError(Exception):
    """Root of all errors of this package; never raised itself."""

    def __str__(self) -> str:
        """Return the message in one line: it may quote a file or an answer."""
        return visible(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Show one readable line in a notebook; the cell, and with it the run, still fails."""
        return [f"{type(self).__name__}: {self}"]


# Inputs ----------------------------------------------------------------------------------------------


class InputError(RunbookError, ValueError):
    """A parameter, option or environment variable has no valid value, or no step takes it; nothing was called.

    `problems` holds one `(field, message)` pair per wrong field.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{field}: {message}" for field, message in self.problems))


class ParameterFileInvalid(RunbookError, ValueError):
    """A parameter file does not exist, cannot be read, or is not one flat YAML mapping."""


class ParameterChanged(RunbookError, ValueError):
    """A resumed run was given another value than its finished steps used."""


# The run folder --------------------------------------------------------------------------------------


class RunNotFound(RunbookError):
    """The runs folder holds no run of this id."""


class RunUnreadable(RunbookError):
    """state.json is damaged, or a newer version of this package wrote it."""


class RunLocked(RunbookError):
    """Another process is working on this run."""


class StepMissing(RunbookError):
    """A step needs the record of an earlier step that has not finished."""


class ArtefactMissing(RunbookError):
    """A file that a step needs does not exist or cannot be read."""


class FileNotWritable(RunbookError):
    """A file or folder cannot be created, written, renamed or deleted."""


# The target ------------------------------------------------------------------------------------------


class WrongAccount(RunbookError):
    """The caller's AWS account is not the one that the run is fixed to."""


class WrongRegion(RunbookError):
    """A Region is unknown, or not enabled in the account."""


class WrongEndpoint(RunbookError):
    """A request was about to be sent to a host that the run's target does not allow."""


class CredentialsMissing(RunbookError):
    """AWS credentials are missing or have expired."""


class AccessDenied(RunbookError):
    """The caller lacks the permission for an AWS action."""


class AwsCallFailed(RunbookError):
    """AWS answered a call with an error that has no class of its own here."""


class SandboxUnavailable(RunbookError):
    """The sandbox cannot be started here, or does not answer."""


class SandboxEnded(RunbookError):
    """The sandbox of this run has ended, and its resources no longer exist."""


# Key material ----------------------------------------------------------------------------------------


class KeyMaterialLength(RunbookError, ValueError):
    """Key material is not exactly 32 bytes."""


class KeyMaterialEncoded(RunbookError, ValueError):
    """A file holds base64, hex or text where raw bytes are expected, or not the encoding that was stated."""


class KeyMaterialMismatch(RunbookError):
    """Recovered key material is not the material that the KMS key had."""


class PrivateFileUnsafe(RunbookError):
    """A file that holds a secret is not a regular file, or users other than its owner can read it."""


class WrappingKeyInvalid(RunbookError, ValueError):
    """The wrapping public key, or its algorithm, cannot wrap the material of a symmetric KMS key."""


class EncryptedKeyMaterialInvalid(RunbookError, ValueError):
    """A ciphertext does not have the length that the wrapping key yields, or does not decrypt."""


class RecoveryKeyInvalid(RunbookError, ValueError):
    """A recovery key is repeated, or not an RSA key of at least 2048 bits in PEM form, or too few or many are given."""


class RecoverySourceInvalid(RunbookError, ValueError):
    """The recovery sources that were provided open no backup of the set, or not every component of it."""


class SigningKeyInvalid(RunbookError, ValueError):
    """A file given to sign the evidence is not an RSA or EC private key that can be loaded."""


class PassPhraseMissing(RunbookError):
    """A PIN or password is not at the place that was stated, or nobody is present to type it."""


class HsmUnavailable(RunbookError):
    """The PKCS#11 module, token or key does not exist, or the token refuses the PIN."""


class HsmIncapable(RunbookError):
    """The token lacks a mechanism that the wrapping algorithm needs."""


class CustodyRefused(RunbookError, ValueError):
    """The chosen custody leaves no backup, or key material in clear on a disk, and the inputs do not accept that."""


class HandOverInvalid(RunbookError, ValueError):
    """A hand-over bundle or hand-back archive is damaged, incomplete, or of a newer format."""


class ArtefactsMismatch(RunbookError):
    """Files belong to different sets: wrapping key, import token, encrypted key material or custody."""


class ImportTokenExpired(RunbookError):
    """The wrapping public key and import token are older than 24 hours."""


# Planning, applying, verifying -----------------------------------------------------------------------


class PolicyInvalid(RunbookError, ValueError):
    """A key policy or IAM policy is malformed, has no effect, or cannot be evaluated here."""


class PreflightFailed(RunbookError):
    """Something that a later step needs is missing; nothing was created."""


class PlanRefused(RunbookError):
    """A plan has a row to refuse: an existing resource differs from the inputs."""


class PlanOutdated(RunbookError):
    """What a cell was given is not what was read last, or belongs to another run: nothing was planned or applied.

    The form was edited or could not be read, another step was applied after the plan was shown, or step, plan and
    inputs are of different runs, accounts or Regions.
    """


class CellsNotRun(RunbookError):
    """A cell needs what an earlier cell of its page sets, and that cell was not run in this kernel, or failed."""


class PlanNotConfirmed(RunbookError):
    """With target aws, nobody has confirmed the plan that is shown; nothing was applied."""


class NotConfirmed(RunbookError):
    """A deletion or a cut-over was not confirmed, or the confirmation names another resource."""


class WritersConnected(RunbookError):
    """Clients are connected to a cluster whose last snapshot is about to be taken, or it is not known that none are."""


class KeyNotUsable(RunbookError):
    """The KMS key cannot encrypt a cluster: its state, Region, key spec or origin is wrong."""


class OutcomeUnclear(RunbookError):
    """A create request got no answer, and reads do not yet show whether it took effect."""


class WaitFailed(RunbookError):
    """A resource is in a state from which it cannot become available by itself."""


class WaitTimedOut(RunbookError):
    """A resource did not reach the expected state within the time limit."""


class WaitInterrupted(RunbookError):
    """A person interrupted a wait."""


class VerificationFailed(RunbookError):
    """At least one claim about AWS's resources or answers is not true; `findings` has one line per claim that failed."""

    def __init__(self, message: str, *, findings: Sequence[str] = ()) -> None:
        self.findings = tuple(findings)
        super().__init__(message)

    def _render_traceback_(self) -> list[str]:
        """Show one finding per line in a notebook."""
        if len(self.findings) < 2:
            return super()._render_traceback_()
        failed = [f"  ✗ {visible(finding)}" for finding in self.findings]
        head = f"{type(self).__name__}: {len(failed)} checks FAILED; find out what changed it, then run the step again:"
        return [head, *failed]


class StepFailed(RunbookError):
    """A step of a headless run failed. `run_id` is the run to resume, `output` the executed notebook or ""."""

    def __init__(self, run_id: str, step: str, reason: str, output: str) -> None:
        self.run_id, self.output = run_id, output
        super().__init__(f"{step}: {reason}")


class TaskNotPrepared(RunbookError):
    """A task of a notebook was not prepared, so that there is nothing to call: unattended, switched off, or on AWS."""


# JupyterLab --------------------------------------------------------------------------------------------------


class LabUnavailable(RunbookError):
    """JupyterLab is not installed, cannot use its port, did not start, or has ended."""
