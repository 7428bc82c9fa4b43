"""Decisions without side effects: values in, values out; no database, network or clock.

May import models, and of pingone only the answers (`errors`, `wire`) that a decision is about.
Begin with `decisions`: what each answer of PingOne means for a record.
"""
