"""The same job in other hands: read the shipment, activate each device, keep each row's result. Written as one would in
each library for work like this, and read by nothing but the benchmarks.

Each module's docstring says which of the five promises of docs/design.md it gives up, and why.
"""
