"""Move the golden losses: `python -m tests.golden.regolden` prints old and new and asks why before it writes.

Entries that are within the tests' tolerance stay to the last digit: another machine's rounding is no change.
"""

import json
import sys

import numpy as np
import torch

from sae.functional.files import write_whole
from tests.golden.losses import FILE, TOLERANCE, compute, kept, names


def main() -> int:
    torch.set_num_threads(1)
    old = kept()["losses"]
    new = {name: held(old.get(name), compute(name)) for name in names()}
    if new == old:
        print("nothing moved")
        return 0
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, []), new.get(name, [])
        if before == after:
            continue
        print(name)
        for step in range(max(len(before), len(after))):
            pair = [f"{some[step]:.9g}" if step < len(some) else "-" for some in (before, after)]
            print(f"  step {step:2d}  old {pair[0]:>14}  new {pair[1]:>14}")
    print("Why do they move? (an empty line leaves the file as it is)", flush=True)
    reason = sys.stdin.readline().strip()
    if not reason:
        print("not written")
        return 1
    write_whole(FILE, json.dumps({"reasons": [*kept()["reasons"], reason], "losses": new}, indent=1) + "\n")
    print(f"wrote {FILE}")
    return 0


def held(before: list[float] | None, after: list[float]) -> list[float]:
    """The losses that were kept where the new ones are within tolerance of them, else the new ones."""
    same = before is not None and len(before) == len(after) and np.allclose(after, before, rtol=TOLERANCE, atol=0)
    return before if before is not None and same else after


if __name__ == "__main__":
    sys.exit(main())
