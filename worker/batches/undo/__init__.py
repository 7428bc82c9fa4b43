"""What a batch made in PingOne is taken away again, by a person's command: its devices, then its tokens.

May import preparation (which follows import jobs and compares tokens), leases, audit, pingone, pace and everything
below them. Only what the batch itself made is touched, each thing read back before. What was taken away is written down
at once, and what is not written down is looked up again: the command may end at any moment and be given again.
Begin with `pipeline`, the command; `ownership` says what a batch made, and `undo_check` when it may be undone.
"""
