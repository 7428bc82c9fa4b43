"""What one machine's installation consists of: its settings, home, keys and database, and the stack of `run`.

It prints nothing.
Begin with `installation`; `stack` starts the processes of `run`, `broker_check` is what `doctor` asks of a broker.
"""
