#!/bin/sh
# Make .venv with the locked packages, or bring it up to date. A failed attempt leaves no half-made .venv.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
fail() { echo "$1" >&2; exit 1; }

case "$(uname -s)" in MINGW*|MSYS*|CYGWIN*) fail "Windows is not supported; use WSL (Windows Subsystem for Linux)" ;; esac
command -v "$python" >/dev/null || fail "$python not found; install Python 3.11 or later, or name one: make PYTHON=python3.12 …"
version=$("$python" -c 'import platform; print(platform.python_version())')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python is Python $version, and 3.11 or later is needed; name another one: make PYTHON=python3.12 …"

begun=$(date +%s)
made=
trap '[ -z "$made" ] || { rm -rf .venv; echo "The set-up failed; .venv was removed again." >&2; }' EXIT
trap 'exit 130' INT TERM
.venv/bin/python -c 'import pip' 2>/dev/null || {
  made=1
  rm -rf .venv
  "$python" -m venv .venv || fail "$python has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
}
echo "Setting up .venv with Python $version and $(grep -c '^[a-z].*==' requirements.lock) locked packages; this takes about half a minute"

export PIP_DISABLE_PIP_VERSION_CHECK=1
uv_lines=.venv/uv.lock
awk '/^[a-z]/ { wanted = /^uv==/ } wanted' requirements.lock >"$uv_lines"
index=$(.venv/bin/pip config get global.index-url 2>/dev/null || true)
index=${PIP_INDEX_URL:-$index}
[ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
install() {  # uv is many times as fast; pip goes where uv does not
  .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python "$@" || .venv/bin/pip install --quiet "$@"
}
.venv/bin/pip install --quiet --require-hashes -r "$uv_lines"
install --require-hashes -r requirements.lock
install --no-deps -e .
# Where PYTHONDONTWRITEBYTECODE is set, as in many container images, nothing would be compiled later.
.venv/bin/python -m compileall -q runbook_lib runbook_cli runbook_sandbox runbook_kernels
touch .venv/ready
made=
echo "Set up in $(($(date +%s) - begun)) s"
