#!/usr/bin/env bash
# Run the tests on the classic stack (Python 3.10, torch 2.1 and what else tests/classic-constraints.txt names):
#   bash scripts/test_classic.sh [arguments of pytest]          make test-classic
# CLASSIC_PYTHON names the interpreter, CLASSIC_VENV the environment (default: .venv-classic).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${CLASSIC_VENV:-.venv-classic}
constraints=tests/classic-constraints.txt

find_python() {
  local candidate
  for candidate in "${CLASSIC_PYTHON:-}" python3.10 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python3.10; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.10 found; install one, or name it: CLASSIC_PYTHON=/path/to/python3.10" >&2
  return 1
}

# Torch first: BasicSR's source build imports it, and an isolated build would download another one.
if [ ! -e "$venv/.installed" ] || [ "$constraints" -nt "$venv/.installed" ] || [ setup.py -nt "$venv/.installed" ]; then
  test -x "$venv/bin/python" || "$(find_python)" -m venv "$venv"
  export PIP_CONSTRAINT=$constraints PIP_DISABLE_PIP_VERSION_CHECK=1
  "$venv/bin/python" -m pip install --upgrade pip setuptools wheel
  "$venv/bin/python" -m pip install torch torchvision numpy cython
  "$venv/bin/python" -m pip install --no-build-isolation "basicsr>=1.4.2"
  "$venv/bin/python" -m pip install --no-build-isolation -e ".[dev]"
  touch "$venv/.installed"
fi

"$venv/bin/python" -m pip list | grep -iE '^(torch|torchvision|numpy|opencv-python|lmdb|pillow|basicsr) '
# Python 3.13 belongs to the current stack: there is no torch 2.1 for it.
exec "$venv/bin/python" -m pytest --ignore=tests/process/test_python313.py "$@"
