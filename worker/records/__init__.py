"""What a worker does with one record: it takes the record up, and makes an attempt at it. Begin with `activation`,
which a task calls; `attempt` is what happens under one lease, `otp_source` where its OTPs come from."""
