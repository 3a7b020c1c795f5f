"""Run pip-audit on the packages that requirements.lock pins; fail on a known vulnerability.

Without vulnerability data in the package index, pip-audit skips every package and prints "no known vulnerabilities".
So the number of packages that were audited is printed as well. A build that cannot reach the data does not fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"


def main() -> int:
    """Return 1 when a pinned package has a known vulnerability, else 0."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--no-deps", "--disable-pip", "-f", "json",
               "--progress-spinner", "off", "--timeout", "10"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - our own
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("not audited: the vulnerability data cannot be reached")
        return 0
    asked = [package for package in packages if "vulns" in package]
    found = [(package, vuln) for package in asked for vuln in package["vulns"]]
    for package, vuln in found:
        fixed = ", ".join(vuln.get("fix_versions", [])) or "none yet"
        print(f"{package['name']} {package['version']}: {vuln['id']}, fixed in {fixed}")
    print(f"{len(asked)} of {len(packages)} pinned packages audited, {len(found)} known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
