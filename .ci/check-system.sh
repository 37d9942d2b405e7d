#!/usr/bin/env bash
# Says in one sentence which Debian or Ubuntu packages to install before `make setup` can work; silent when all are there.
set -euo pipefail

missing=()
has_header() { echo "#include <$1>" | cc "${@:2}" -E -x c - >/dev/null 2>&1; }

if ! command -v python3 >/dev/null; then
  missing+=(python3 python3-venv python3-dev)
elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "setup: Python $(python3 -c 'import platform; print(platform.python_version())') found, 3.11 or newer needed: install one and put it first in PATH" >&2
  exit 2
else
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi
if command -v cc >/dev/null; then
  if command -v python3 >/dev/null; then
    has_header Python.h "-I$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["include"])')" || missing+=(python3-dev)
  fi
  # jpeglib.h needs stdio.h before it
  echo -e '#include <stdio.h>\n#include <jpeglib.h>' | cc -E -x c - >/dev/null 2>&1 || missing+=(libjpeg-dev)
  has_header zlib.h || missing+=(zlib1g-dev)
else
  missing+=(gcc libc6-dev python3-dev libjpeg-dev zlib1g-dev)
fi
if [ "${#missing[@]}" -gt 0 ]; then
  mapfile -t unique < <(printf '%s\n' "${missing[@]}" | sort -u)
  echo "setup: missing system packages, install them with: sudo apt-get install -y ${unique[*]}" >&2
  exit 2
fi
