"""RDS of the sandbox."""
