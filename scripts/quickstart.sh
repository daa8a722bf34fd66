#!/usr/bin/env bash
# From a bare machine to a trained SAE of a real model and its dashboard: installs what is needed, trains, evaluates, writes pages
# for every latent, shows where all is.
#
#   bash scripts/quickstart.sh                       the default SAE, in runs/quickstart; a second call shows its results
#   bash scripts/quickstart.sh sae.expansion=16      anything that scripts/train.py takes, in a run folder of its own
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly python="${VENV:-.venv}/bin/python" run=runs/quickstart

bash scripts/install.sh

if [ "$#" -gt 0 ]; then
    exec "$python" scripts/train.py "$@"
fi

if [ -s "$run/report.json" ]; then
    printf '%s is trained already (to train it anew: rm -r %s). Its results on held-out text:\n' "$run" "$run"
    "$python" - "$run/report.json" <<'PY'
import json, sys
names = ("fvu", "l0", "dead_fraction", "ce_clean", "ce_sae", "ce_recovered_zero")
for sae, numbers in json.load(open(sys.argv[1]))["saes"].items():
    shown = [f"{name} {numbers[name]:.4g}" for name in names if numbers.get(name) is not None]
    print(f"  {sae}: " + ", ".join(shown))
PY
else
    # A run that was stopped goes on from its last checkpoint.
    "$python" scripts/train.py run.name=quickstart run.if_exists=resume
fi

if [ ! -s "$run/dashboard/data/manifest.js" ]; then
    # Part of the text, to be quick; without dashboard.tokens= it is all of it, up to 500,000 tokens.
    "$python" scripts/dashboard.py "from=$run" dashboard.tokens=50000
fi

cat <<TEXT

Where everything is:
  $run/dashboard/index.html   what every latent fires on, and more: open it in a browser
  $run/report.html            curves and numbers: open it in a browser
  $run/report.json            the numbers
  $run/saes/                  the trained SAE, its settings and model card
  $run/metrics.jsonl          what was measured while training
Next:
  $python scripts/dashboard.py from=$run serve=true     type any text, see its latents, hold some of them
  $python scripts/train.py --help
  $python scripts/train.py model=minilm hook.layer=3
TEXT
