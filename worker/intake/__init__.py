"""Turns a shipment's file into rows, and errors for refused rows. Begin with `shipment` (opens and reads a file) or
`rows` (the results); `formats` is the table of formats, `files` and `other_formats` parse files, `tokens` checks their
contents."""
