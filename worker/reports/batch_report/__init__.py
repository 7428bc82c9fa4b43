"""The report of a batch: what became of every row, when, why, and on whose command. Reads, and changes nothing.

Begin with `reading` (one snapshot of the database becomes one `Report`); `contents` says what a report holds, and
`worker.pages` writes it as a page, as JSON and as CSV. Nothing here reads an OTP or a seed.
"""
