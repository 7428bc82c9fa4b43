"""The database: engine and transactions, errors that pass, schema and its revision, many rows at once.

May import config and clocks; knows no table but through models.
Begin with `engine`.
"""
