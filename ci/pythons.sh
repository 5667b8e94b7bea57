#!/usr/bin/env bash
# Prints an interpreter for each Python that the project supports and NumPy has wheels for, other than the one given: "3.12 /path".
# usage: ci/pythons.sh PYTHON, an interpreter whose environment has NumPy. A version without an interpreter is named on stderr.
set -euo pipefail
"$1" - <<'PY' | while read -r version; do
import importlib.metadata, re, sys
text = importlib.metadata.metadata("numpy").get_all("Classifier") or []
minors = sorted(int(m[1]) for c in text if (m := re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", c)))
print(*(f"3.{m}" for m in minors if m >= 11 and m != sys.version_info.minor), sep="\n")
PY
    found=""
    for candidate in "$(command -v "python$version" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
        if [ -x "$candidate" ] && "$candidate" -c "import sys, venv; sys.exit(sys.version_info[:2] != (3, ${version#3.}))" 2> /dev/null; then
            found="$candidate"
        fi
    done
    if [ -n "$found" ]; then echo "$version $found"; else echo "Python $version: there is no interpreter here" >&2; fi
done
