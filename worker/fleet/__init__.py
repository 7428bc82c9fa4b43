"""The worker processes of an installation: which are alive, and which take no work because they fail where others do
not.

May import database.
Begin with `processes`, the table of them; `fitness` takes this process out of work and back.
"""
