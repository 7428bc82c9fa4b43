"""How many faults the tests notice: the product is broken in many places, one at a time."""
