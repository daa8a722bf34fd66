"""Train sparse autoencoders; `python scripts/train.py --help` shows how."""

import sys

from sae.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
