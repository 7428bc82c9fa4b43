"""Pages for people: what `worker.reports` has read of a batch, as HTML.

May import reports, models and observability. Begin with `batch_page`: the desk shows it, and `oathbulk report` writes
it as a file. `templates/parts.html` holds the tables and the chart as macros, which any page may use; a file needs no
script, font or image from elsewhere.
"""
