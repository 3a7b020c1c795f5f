"""The `runbook` command and the headless runs."""
