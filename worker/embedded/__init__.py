"""The single-machine stack: a home, its keys, a Valkey server, and child processes that end with their parent.

Only installation and cli import it. Begin with `home`, `valkey` or `children`.
"""
