"""What works through a batch in a test.

`real_fleet` is a whole installation as real processes; `scripted_fleet` a dispatcher in the test's own process, and
workers whose attempts end as the test says; `paced_fleet` a fleet in virtual time that knows nothing but its pace, with
limits.
"""
