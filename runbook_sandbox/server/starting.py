"""Starting quickly: while moto is being imported, no model file is parsed twice and no garbage is looked for.

Three of moto's modules make a boto3 session each while they are imported, and each session parses EC2's model (4 MB)
and the list of endpoints anew. Together with the collector's walks over what is imported that is nearly half of the
sandbox's start-up (1.2 s of processor time, 0.7 s with this).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Parse no model file twice and collect no garbage within the block; afterwards everything is as before."""
    from botocore.loaders import JSONFileLoader

    parse, parsed = JSONFileLoader.load_file, {}
    loaders: Any = JSONFileLoader

    def load_file(loader: Any, file_path: str) -> Any:
        if file_path not in parsed:
            parsed[file_path] = parse(loader, file_path)
        return parsed[file_path]

    loaders.load_file = load_file
    gc.disable()
    try:
        yield
    finally:
        loaders.load_file = parse
        gc.enable()
        gc.freeze()  # what has been imported stays
