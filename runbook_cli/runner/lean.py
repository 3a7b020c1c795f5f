"""Import this before Jupyter's packages: it keeps out a slow dependency that the runbook does not use.

JupyterLab installs `rfc3987_syntax`, a JSON Schema format checker that builds its parsers when nbformat is imported,
which takes most of a second. Without it, jsonschema skips this one format.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
