"""Clocks that nobody can set: seconds since boot, the watch over the database's clock, and time spent waiting.

Imports nothing of ours.
Begin with `boot_clock`.
"""
