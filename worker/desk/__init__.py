"""The desk: pages in a browser on which a person looks at shipments and tokens, and commands batches.

Begin with `app`: the pages, and what a person confirms there. `security` says who may come in and refuses requests that
another site may have made. `batch_page` is the page of a batch, which `oathbulk report` writes as a file too: it needs
no script, font or image from elsewhere. What the pages tell is read by
`worker.reports`; what they command is done by `worker.batches`, with its line in the audit. No OTP and no seed is on
any page.
"""
