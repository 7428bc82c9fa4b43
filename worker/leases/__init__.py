"""The right to work on a record, called its lease, and every change of Record.status: no other package writes that
column.

May import rules, pingone (for its answers), database, clocks and models; not batches, records or dispatch.
Begin with `lease` (what a worker does with one record), `queue` (what the dispatcher does with many) or `replay`
(what a person does with those that ended); `moves` is how all of them write a status."""
