# Usage: sh requirements/install.sh PYTHON VENV LOCK...
# Makes VENV when it is missing or unusable, installs the locks into it with their hashes checked, then the project, editable.
set -eu
python=$1 venv=$2
shift 2

found() { command -v "$1" >/dev/null 2>&1; }

die() {
    printf 'enginehouse: %s\n' "$*" >&2
    exit 1
}

found "$python" || found uv || die "no $python here: install the package python3 (3.11 or newer)"

printf 'Installing into %s (about a minute)\n' "$venv"

usable() { "$venv/bin/python" -c '' 2>/dev/null && { found uv || "$venv/bin/python" -c 'import pip' 2>/dev/null; }; }

if ! usable; then
    rm -rf "$venv"
    # Debian's python3 has the venv module but, without python3-venv, no ensurepip: `-m venv` then fails half-way.
    if "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        "$python" -m venv "$venv"
    elif found uv; then
        uv venv --quiet --python '>=3.11' "$venv"
    elif "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then
        die "$python is older than 3.11: install a newer one and say make PYTHON=python3.11"
    elif found virtualenv; then
        virtualenv --quiet --python "$python" "$venv"
    else
        die "$python cannot make a virtual environment: install the package python3-venv"
    fi
fi

if found uv; then
    install() { uv pip install --quiet --python "$venv/bin/python" "$@"; }
else
    install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
fi

for lock do
    install --require-hashes -r "$lock"
done
# Its dependencies and its build backend are in the locks already.
install --no-deps --no-build-isolation -e .
