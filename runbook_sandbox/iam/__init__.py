"""IAM and STS of the sandbox."""
