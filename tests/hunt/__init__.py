"""The hunt: thousands of small, bad days in the life of a fleet, each told again by its seed alone.

One scenario is a batch or two of one to four records, two or three workers, up to two dispatchers, persons at their
keyboards, a queue, a pace and a PingOne. What decides is the real code: Activation, Leases, Queue, Dispatcher, Batches,
decisions, and Client with its policy and its reading of answers, on a real SQLite database with the real schema. What
it stands on is a model: time, the network under the client, PingOne, the broker and the pace.

Every worker and every dispatcher is a strand that stops at each switch point: before and after every transaction, at
every wait, before a request goes out, after PingOne acted on it, before its answer is read. There the scheduler, driven
by the seed, lets any other go on, moves time, or breaks something: a process dies (what it had not committed is rolled
back), freezes for a minute, is asked to stop; a commit fails or succeeds unheard; messages are lost, doubled, delayed,
reordered, wiped; publishing ends half-way; connections break before, after, or long before PingOne acts; answers of
every kind; devices are locked, blocked, deleted, activated by others; persons pause, resume, cancel and replay. Some
tokens lie on a table: their persons come during the storm, and some tokens are taken back. Persons mend, too: each mend
is a strand that exports its batch, corrects rows well or badly (fresh OTPs, those of before, another person, the
vendor's seeds) and brings the file back at once or later, while workers, another mend or its own death come between.
Undos are strands as well: of a batch, of its devices alone, of a list, or of what meets a condition; one that died is
typed again. All OTPs are sealed with a new key while records are in work, and somebody's name is erased; in the end
some days are purged. The database is lost, and its backup is restored and marked, unless a person has typed something
since: docs/operating.md says that this has to be typed again.
Each seed has its own choice of these evils. Then the faults end, and the batch must finish by itself.

In half of the scenarios the batches were loaded with --import and --pair, and some records lack something: the device,
the token in PingOne's inventory, the user. Tokens are free, or somebody's device, of the right person or of another;
they are imported by jobs, paired, given away and unpaired by others, and deleted by PingOne when they wait too long. A
device that was just made is not seen at once. Preparations are strands of their own, which die, freeze and lose answers
like the workers, and now and then one begins although another goes on.

    scenario                      one seed from begin to end: what it consists of, what befalls it, its storm, its calm
                                  and its judges
    initial_state                 what a scenario begins with: a tenant, its devices, the batches that were loaded, and
                                  what their rows do not say
    schedule                      who goes on, what time it is, what happens: all from the seed
    database, model_redis,        what the code stands on; each has the switch points and the faults of its kind
    model_network, model_pingone,
    tenant
    processes                     workers, dispatchers, preparations, and persons who mend a batch with a file; the
                                  places where the real code looks at the clock, waits or reaches the network
    step_judge                    every commit and request, held against the promises at the moment when it happens
    end_judge                     what PingOne has and what our tables say at the end, held against the promises
    streams                       streams of answers, whatever they are: few OTPs are spent before the batch stops
    mutants                       deliberate faults of our code, each of which the hunt has to find
    walk                          one fault, everywhere: short days, each with every single evil in every place
    seeds                         many seeds; a failing one shrunk to the evils that it needs

What is never generated, because nothing could fence it (docs/decisions/0003): a worker that freezes between the
transport's last look at the clock and the first byte, for longer than is left of its lease. Here the two are one step;
a freeze anywhere else, of any length, is fair. For the same reason the database's clock runs away from the workers' by
less than the spare seconds of a lease while a call is on its way; when none is, it jumps by hours. A lost request acts
at PingOne up to the call's deadline after its loss, never later; and a worker that stands still has lost it at the
deadline, for then the kernel drops what it has not delivered. A job on the inventory is done within the seconds that a
lost import waits before it is looked for, and no one else imports or pairs the very tokens of a request of ours of
unknown fate for the very person: nothing could tell these from our own. After a step of the database's clock by minutes
the times of imports are not judged, since a preparation has no clock beside it. SQLite has one writer at a time, so
what two transactions do to each other inside PostgreSQL is not seen here: tests/integration is for that.

    python -m hunt --minutes 10 --seed 1        (with tests/ on the path) hunts on every core
    python -m hunt --replay 12345               tells one schedule again, event by event
"""
