"""Who says whether a promise was broken, and the evidence for it.

Begin with `verdict`: all judges over one installation, when its work is over. tests/README.md says which judge watches
which promise.
"""
