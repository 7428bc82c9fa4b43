"""Batches, records, shipments and tokens for tests: made, and looked at in the database.

Begin with `batches`, which writes a batch straight into the tables; `loading` loads one from a file, as a person does.
"""
