"""Write activations to disk once; `python scripts/harvest.py --help` shows how."""

import sys

from sae.commands.harvest import main

if __name__ == "__main__":
    sys.exit(main())
