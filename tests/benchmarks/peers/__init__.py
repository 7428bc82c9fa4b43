"""A study of other task queues beside ours: the same job in other hands. No test, and no part of oathbulk.

Each reads the shipment, activates each device and keeps each row's result, written as one would in each library for
work like this. Nothing but `side_by_side` and `limits` uses it, by way of `contenders`; what came out stands in
docs/performance.md.

Each module's docstring says which of oathbulk's promises it gives up, and why.
"""
