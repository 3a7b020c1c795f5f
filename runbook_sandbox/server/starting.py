"""Fast start: import moto without parsing a model file twice and without garbage collection.

Three of moto's modules each create a boto3 session when imported, and each session parses EC2's model (4 MB) and the
list of endpoints again. With the garbage collection of everything imported, that is nearly half of the sandbox's
start-up (1.2 s of processor time; 0.7 s with this).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Parse no model file twice and collect no garbage within the block; both are restored afterwards."""
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
        gc.freeze()  # imported objects stay, so the collector need not visit them
