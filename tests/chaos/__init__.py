"""Chaos: the real stack works through a batch while everything around it is killed, frozen, cut off, wiped and refused.

Two stacks: a fleet on PostgreSQL (two workers, beat, Valkey, each with links of its own to the servers), and the
single-machine one, `oathbulk run`, with a second worker beside it. PingOne is the simulator, with faults of its own.
The shipment is OTP pairs for devices that are there, or a vendor's box that goes the whole way.
What happens, and when, comes from a seed. Each disturbance has a begin and an end, and after each of them an OTP must
arrive again; the batch must finish by itself. The judge is the simulator's call log; from our tables he takes only
whether they say the same, and which calls we never had an answer to.

    links                  the network: a TCP proxy between one program and one server, to cut, to stall and to heal
    stack                  what all stacks can do, and what is broken in them
    postgresql_stack,      the two stacks
    single_machine
    disturbances           what befalls a stack, each under its name
    schedule               which, in what order, for how long: from the seed
    disk                   a home on a disk that is full, and has room again
    runs                   one stack from its begin to the verdict
    comparison             the time that a disturbed batch takes, beside an undisturbed one

    python -m chaos --minutes 30 --seed 1        (with tests/ on the path) goes on for as long as one likes
    python -m chaos --seed 7 --stack postgresql  one batch, the same schedule each time
    python -m chaos --compare                    what the disturbances cost in time

A seed repeats what was done to the stack, and not the moments at which threads met it: that is what `hunt` is for.
"""
