"""The worker processes of an installation: which are alive, and which ended since they failed where others do not.

May import database.
Begin with `processes`, the table of them; `fitness` ends this process if it fails alone.
"""
