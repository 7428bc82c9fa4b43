"""Clocks: seconds since boot, which setting the time does not change; whether the database's clock was set; and the
time that threads spend waiting.

Imports nothing of ours.
Begin with `boot_clock`, by which deadlines are counted; `clock_watch` compares it with the database's clock.
"""
