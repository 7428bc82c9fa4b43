"""Threads that ask for the same thing at the same time ask once, together.

Imports nothing of ours. Begin with `combiner`."""
