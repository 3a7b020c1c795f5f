"""Save notebooks without widget views, so that they are readable without a kernel.

A saved widget view shows only "Loading widget" when the notebook is opened. Each form also has an HTML output, so
the widget view is removed from the file; the open page keeps it.
"""

from __future__ import annotations

from typing import Any

_WIDGET = "application/vnd.jupyter.widget-view+json"


def without_widgets(model: dict[str, Any], **_: Any) -> None:
    """Remove widget views from a contents model before it is saved: a pre-save hook of Jupyter's ContentsManager.

    An output without an HTML alternative keeps its widget view.
    """
    if model.get("type") != "notebook" or not isinstance(notebook := model.get("content"), dict):
        return
    notebook.get("metadata", {}).pop("widgets", None)
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if _WIDGET in data and "text/html" in data:
                del data[_WIDGET]
