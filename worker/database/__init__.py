"""The database: its engine and transactions, errors that pass by themselves, the schema and its revision, and a quick
way to write many rows.

May import config and clocks; knows no table but through models.
Begin with `engine`.
"""
