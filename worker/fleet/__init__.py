"""The worker processes of an installation: which are alive, and which takes no work because it fails alone.

May import database.
Begin with `processes`, the table of them; `fitness` takes this process out of work and back.
"""
