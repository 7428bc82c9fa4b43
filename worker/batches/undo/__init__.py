"""What a batch made in PingOne is taken away again, by a person's command: its devices, then its tokens.

May import preparation (which follows import jobs and compares tokens), leases, audit, pingone, pace and everything
below them. Only what the batch itself made is touched, each thing read back before. What was taken away is written down
at once, and what is not written down is looked up again: a command may end at any moment and be given again.
Begin with `unpairing` and `revocation`, the two commands; `standing` says when a batch may be undone.
"""
