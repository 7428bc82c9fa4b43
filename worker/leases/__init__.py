"""The right to work on a record, and the only writers of Record.status.

`worker` holds what a worker does with one record (claim, sending, answered, settle), `queue` what the dispatcher does
with many (enqueue, rescue), `commands` what a person does with a batch (cancel, replay).
"""
