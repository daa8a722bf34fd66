#!/usr/bin/env bash
# Installs what the checks need, then runs every check and sums up at the end. Exit status 0: all passed.
#
#   bash scripts/test.sh                 every check and every test
#   bash scripts/test.sh fast            without the slow tests: no packaged models, child processes or notebooks
#   bash scripts/test.sh lint types      these checks alone
#
#   SAE_TEST_WORKERS=2       tests at once
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

readonly static="format lint types imports spelling shell"
python="${VENV:-.venv}/bin/python"
bin="${VENV:-.venv}/bin"

format() { "$python" -m ruff format --check; }
lint() { "$python" -m ruff check; }
types() { "$bin/basedpyright" --pythonpath "$python"; }
imports() { PYTHONPATH=. "$bin/lint-imports" --no-cache; }
spelling() { "$bin/codespell" .; }
shell() { "$bin/shellcheck" scripts/*.sh .ci/run; }
# The tests of one file share a worker, and so what they load.
tests() { "$python" -m pytest -n "${SAE_TEST_WORKERS:-2}" --dist loadfile --durations 10 "$@"; }
fast() { tests -m "not slow"; }

chosen=${*:-$static tests}
[ "$chosen" != fast ] || chosen="$static fast"
for check in $chosen; do
    case " $static tests fast " in
        *" $check "*) ;;
        *)
            printf "Unknown check '%s'. Known: %s tests fast.\n" "$check" "$static" >&2
            exit 2
            ;;
    esac
done

bash scripts/install.sh dev || exit 1

failed=""
for check in $chosen; do
    printf '\n== %s\n' "$check"
    "$check" || failed="$failed $check"
done

printf '\n'
if [ -n "$failed" ]; then
    printf 'Failed:%s\n' "$failed"
    exit 1
fi
printf 'Passed: %s\n' "$chosen"
