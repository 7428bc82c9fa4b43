"""What a worker does with one record: it claims the record, and makes an attempt to activate it. Begin with
`activation`, which a task calls; `attempt` does the work under one lease, and `otp_source` supplies its OTPs."""
