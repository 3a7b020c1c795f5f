"""KMS of the sandbox."""
