"""One dictionary over several layers of a model, and its pages; `python scripts/factors.py --help` shows how."""

import sys

from sae.commands.factors import main

if __name__ == "__main__":
    sys.exit(main())
