"""The `runbook` command, headless runs and JupyterLab."""
