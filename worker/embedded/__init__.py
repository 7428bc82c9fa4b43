"""The single-machine stack: a home, its encryption key, a Valkey server, and child processes."""
