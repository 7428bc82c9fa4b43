"""One machine's installation: its settings, home, keys, and database, and the stack of `run`. It prints nothing. Begin
with `installation`; `stack` starts the processes of `run`, and `broker_check` has the checks of a broker for
`doctor`."""
