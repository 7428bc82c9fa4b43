"""A PingOne to rehearse on: OATH devices, access tokens and rate limits over real HTTP.

It shares no code with `worker.pingone`, our client, so that a misreading of the vendor's pages on one side is not
confirmed by the other. Begin with `server` (what happens to one call), `world` (what all calls share) or `calls` (which
request is which operation). The tests have a simulator that also loses answers and records its calls:
tests/support/simulator.
"""
