"""Golden files: all that a person or a script is shown, held as it was when somebody last looked at it and agreed.

Begin with `test_golden`, which says what is typed and opened. `prepared` makes the database that all of it is shown
from, `frozen_desk` types commands in a home and at a moment that are the same on every day and machine, `comparing`
compares with the files and writes them anew.
"""
