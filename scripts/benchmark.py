"""Print tokens a second of each stage beside a plain loop; `python scripts/benchmark.py --help` shows how."""

import sys

from sae.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
