"""A PingOne to rehearse on: OATH devices, access tokens, limits and faults over real HTTP.

It shares no code with the client, so that a misreading of the vendor's pages on one side is not confirmed by
the other. What the vendor does not publish is a setting with a value for each reading: see `settings`.
"""
