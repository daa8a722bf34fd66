"""The tests. Their checker of shapes is imported here, since pytest is told it by name alone."""

from tests import shapes as shapes
