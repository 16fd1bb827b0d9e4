#!/usr/bin/env bash
# Prints a Python that has the packages of a requirements file: $PYTHON, else python3 itself where it has them, else an
# environment in target/python that is made for it.
#
#     scripts/python.sh REQUIREMENTS
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
modules=$(sed -e 's/[=<>!~ ].*//' "$1" | paste -sd, -)
if [ -n "${PYTHON:-}" ]; then echo "$PYTHON"; exit; fi
if python3 -c "import $modules" 2>/dev/null; then echo python3; exit; fi

environment=$root/target/python
if ! [ -x "$environment/bin/pip" ] && ! python3 -m venv "$environment" >&2; then
    "$root/scripts/setup.sh" python3-venv >&2
    python3 -m venv "$environment" >&2
fi
"$environment/bin/pip" install --quiet --disable-pip-version-check -r "$1" >&2
echo "$environment/bin/python"
