"""The desk: pages in a browser on which a person views shipments and tokens, and gives commands on batches.

Begin with `app`: the pages, and the commands that a person confirms there. `security` decides who may enter, and
refuses requests that another site may have made. `batch_page` is the page of a batch, which `oathbulk report` also
writes as a file: it needs no script, font or image from elsewhere. `worker.reports` reads what the pages show;
`worker.batches` carries out the commands, each with a line in the audit. No page shows an OTP or a seed.
"""
