"""Measure a trained SAE on held-out text; `python scripts/evaluate.py --help` shows how."""

import sys

from sae.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
