"""256 bits of key material and their backups; no AWS call and no run."""
