"""The sandbox: moto as a local endpoint, changed to answer as AWS documents KMS and RDS."""
