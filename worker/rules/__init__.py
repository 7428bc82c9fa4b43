"""Decisions without side effects: values in, values out; no database, no network and no clock.

Begin with `decisions`: what each answer of PingOne means for a record. `breaker` says when a batch must pause by
itself."""
