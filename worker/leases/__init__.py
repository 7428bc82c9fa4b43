"""The right to work on a record, called its lease, and every change of Record.status: no other package writes that
column. Begin with `lease` (what a worker does with one record), `queue` (what the dispatcher does with many), or
`replay` (what a person does with ended ones); `moves` is how all of them write a status."""
