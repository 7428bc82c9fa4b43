"""Pages for people, and files for machines: what `worker.reports` has read, as HTML, JSON or CSV.

May import reports, models and observability. Only the commands use it. Begin with `report_files` (which form, and who
writes it). `templates/parts.html` holds the tables and the chart as macros, which any page may use; a page needs no
script, font or image from elsewhere.
"""
