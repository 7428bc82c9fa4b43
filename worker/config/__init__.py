"""Settings: what can be set, which values are valid, and where they come from. Imports nothing of ours. Begin with
`settings`; `sources` reads them from environment, `.env`, `*_FILE`, oathbulk.toml and systemd's credentials, and
`trusted_files` refuses a file that other users may change."""
