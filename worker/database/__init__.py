"""The database: its engine and transactions, errors that pass by themselves, the schema and its revision, a quick way
to write many rows, and a backup.

May import config and clocks; knows no table but through models.
Begin with `engine`.
"""
