"""Pages for every latent of a trained SAE; `python scripts/dashboard.py --help` shows how."""

import sys

from sae.commands.dashboard import main

if __name__ == "__main__":
    sys.exit(main())
