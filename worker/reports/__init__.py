"""Reads the database for people and monitors: status, metrics, export, verification. Changes no record.

Begin with `facts` (the status of batches), `outlook` (what happens to them next) and `cures` (what a person can do).
`export` writes a batch as a CSV, `verification` compares it with PingOne.
"""
