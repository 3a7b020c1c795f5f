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

if [ -n "${WHEELHOUSE:-}" ]; then  # from the folder that `make wheelhouse` filled, and from nowhere else
  wheels=$(cd "$WHEELHOUSE" 2>/dev/null && pwd) || fail "there is no folder $WHEELHOUSE; make one with a network: make wheelhouse"
  case "$wheels" in *[[:space:]]*) fail "pip cannot read a folder with a blank in its name: $wheels; move it" ;; esac
  unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL UV_INDEX UV_DEFAULT_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL
  export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS="$wheels" UV_NO_CONFIG=1 UV_NO_INDEX=1 UV_FIND_LINKS="$wheels" UV_OFFLINE=1
fi

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
[ -z "$index" ] || [ -n "${WHEELHOUSE:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
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
