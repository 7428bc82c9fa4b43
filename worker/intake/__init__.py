"""A shipment's file becomes rows, and errors of refused rows. Begin with `shipment` (a file is opened and read) or
`rows` (the results); `formats` is the table of formats, `files` and `other_formats` take files apart, `tokens` checks
their contents."""
