"""Import this before Jupyter's packages: it keeps out what costs them most of a second and is used by nobody here.

JupyterLab brings a format of JSON Schema, `rfc3987_syntax`, whose parsers are built as soon as nbformat is imported.
Without it jsonschema does not check that one format.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
