"""What JupyterLab writes to disk under `runbook lab`: pages that read the same without a kernel and without widgets.

A widget in a saved notebook shows nothing but "Loading widget" to whoever opens it. Each form has an HTML face as
well, so the widget's face is left out of the file; on the screen it stays.
"""

from __future__ import annotations

from typing import Any

_WIDGET = "application/vnd.jupyter.widget-view+json"


def without_widgets(model: dict[str, Any], **_: Any) -> None:
    """Change a contents model that is about to be saved: a hook of Jupyter's ContentsManager.

    An output that has no other face keeps its widget.
    """
    if model.get("type") != "notebook" or not isinstance(notebook := model.get("content"), dict):
        return
    notebook.get("metadata", {}).pop("widgets", None)
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if _WIDGET in data and "text/html" in data:
                del data[_WIDGET]
