"""What works through a batch in a test.

`fleet` is a whole installation as real processes, `works` a dispatcher in the test's own process whose attempts end as
the test says, `paced_fleet` a fleet in virtual time that knows nothing but its pace.
"""
