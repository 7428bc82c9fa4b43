"""Settings: what can be set, what is a sound value, and from where each comes.

Imports nothing of ours.
Begin with `settings`; `sources` reads them from environment, `.env`, `*_FILE` and oathbulk.toml.
"""
