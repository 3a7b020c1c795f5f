"""`runbook lab`: JupyterLab on the runbook."""
