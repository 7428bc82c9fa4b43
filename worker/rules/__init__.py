"""Decisions without side effects: values in, values out; no database, no network and no clock.

May import models, and of pingone and pace only the answers and failures that a decision is about (`pingone.errors`,
`pingone.wire`, `pace.errors`). Begin with `decisions`: what each answer of PingOne means for a record. `breaker` says
when a batch must pause by itself."""
