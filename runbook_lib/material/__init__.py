"""256 bits of key material and their backups; knows no AWS and no run."""
