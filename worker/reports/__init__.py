"""What is read out of the database for a person or a monitor: status, metrics, export, verification. Changes no record.

Begin with `facts` (how the batches stand), `outlook` (what will become of them) and `cures` (what a person can do);
`export` writes a batch as a CSV, `verification` asks PingOne itself.
"""
