"""The file formats that a shipment may come in, one module or package each. A format tells whether a file is one of its
own, whether that is usable as a whole, and what its rows are.

May import vault (OTPs) and intake's own lines and rows.
Begin with `format`, which says what a format has to do, and `table`, which lists them. `tokens` makes rows of what a
format finds, `secrets` decodes, and `bare_csv`, `header_csv` and `xml_stream` read the three shapes of files.
"""
