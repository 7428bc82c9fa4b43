"""The database: its engine and transactions, errors that pass by themselves, the schema and its revision, a quick way
to write many rows, and a backup.

Begin with `engine`.
"""
