"""What is read out of the database for a person or a monitor: status, metrics, export, verification. Changes no record.

Begin with `facts` (how the batches stand) and `sentences` (what is said of that); `export` writes a batch as a CSV,
`verification` asks PingOne itself.
"""
