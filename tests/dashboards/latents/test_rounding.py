import json
import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from sae.dashboards.latents.rounding import optional, rounded


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
@example(1.8405e31)
def test_rounded_numbers_are_near_and_short(value):
    (number,) = rounded(np.array([value])).tolist()
    assert math.isclose(number, value, rel_tol=5.0001e-4)
    if value == 0 or 1e-18 < abs(value) < 1e22:  # outside, powers of ten are not exact
        assert len(json.dumps(abs(number)).split("e")[0].replace(".", "").strip("0")) <= 4


def test_known_numbers():
    values = np.array([0.0, 1234.56, 123456.0, 0.1 + 0.2, 9999.6, -0.00012345678, 1e-30, np.inf])
    assert rounded(values).tolist() == [0, 1235, 123500, 0.3, 10000, -0.0001235, 1e-30, np.inf]
    assert optional(np.array([0.5, np.nan])) == [0.5, None]
