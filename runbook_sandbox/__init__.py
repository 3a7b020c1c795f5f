"""The sandbox: moto as a local endpoint, made to answer as KMS and RDS are documented to."""
