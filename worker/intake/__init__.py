"""Files in: a shipment's file becomes rows, and errors of the rows that are refused.

Begin with `shipment` (a file is opened and read) or `rows` (what comes out of it); `formats` is the table of what is
read, `files` and `other_formats` take files apart, `tokens` checks what they hold.
"""
