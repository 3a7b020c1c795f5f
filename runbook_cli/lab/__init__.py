"""`runbook lab`: JupyterLab with the notebooks, a start page and a sandbox."""
