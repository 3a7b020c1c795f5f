"""The HTTP server of the sandbox. Importing it prepares the environment for moto, which reads it when it is imported."""

from __future__ import annotations

import os

# Loading the unused EC2 images takes a tenth of a second per account.
os.environ.setdefault("MOTO_DISABLE_GLOBAL_CORS", "true")
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
# The SDK in moto reads these files, wherever the home folder is; nothing of the user's own belongs into the sandbox.
os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
