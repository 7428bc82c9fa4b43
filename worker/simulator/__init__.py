"""A PingOne to rehearse on: OATH devices, access tokens, limits and faults over real HTTP.

It shares no code with `worker.pingone`, our client, so that a misreading of the vendor's pages on one side is not
confirmed by the other. Where the vendor's pages leave something open, a setting has a value for each reading.
Begin with `settings` (what can be set), `simulation` (what all calls share) or `call` (what happens to one call).
"""
