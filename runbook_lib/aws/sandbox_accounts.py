"""The sandbox's AWS accounts: one per seat, each with the assumed role Admin.

Imports no moto, so that a session can name an account without it. `runbook_sandbox` creates the role.
"""

from __future__ import annotations

DEFAULT_ACCOUNT = "123456789012"
ACCOUNT_HEADER = "x-moto-account-id"
ROLE_NAME = "Admin"
SESSION_NAME = "runbook"
_FIRST_SEAT_ACCOUNT = 200_000_000_000
MAX_SEAT = 9_999


def account_of_seat(seat: int | None) -> str:
    """Return the twelve digits of a seat's account; no seat (None or 0) is the default account.

    Raises ValueError for a seat that is negative or above MAX_SEAT.
    """
    if not seat:
        return DEFAULT_ACCOUNT
    if not 0 < seat <= MAX_SEAT:
        raise ValueError(f"seat {seat} is not between 1 and {MAX_SEAT}")
    return str(_FIRST_SEAT_ACCOUNT + seat)


def exercise_account(account: str) -> str:
    """Return the account in which the exercises of an account make their mistakes."""
    return "9" + account[1:]


def accounts_of_seat(seat: int) -> tuple[str, str]:
    """Return the accounts that belong to a seat: its own, and that of its exercises. Raises ValueError for no seat."""
    account = account_of_seat(seat)
    return account, exercise_account(account)


def role_arn(account: str) -> str:
    """Return the ARN of the IAM role that callers without a known access key assume."""
    return f"arn:aws:iam::{account}:role/{ROLE_NAME}"


def caller_arn(account: str) -> str:
    """Return the ARN that sts:GetCallerIdentity returns for them."""
    return f"arn:aws:sts::{account}:assumed-role/{ROLE_NAME}/{SESSION_NAME}"
