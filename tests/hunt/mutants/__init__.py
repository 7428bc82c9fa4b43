"""Deliberate faults of our own code, each of which breaks a promise: the hunt has to find every one of them.

A mutant is a patch in memory of our own classes and functions, by name; nothing is written to a file."""

from hunt.mutants import creations, leases, otps
from hunt.mutants.patching import MUTANTS, at_large

__all__ = ["MUTANTS", "at_large", "creations", "leases", "otps"]
