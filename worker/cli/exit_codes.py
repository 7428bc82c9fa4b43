"""The exit codes of the commands; docs/commands.md explains them for monitors and scripts."""

# Every row is active or closed; for other commands: all went well.
ALL_ACTIVE = 0
# Rows failed, or the batch was cancelled; or someone should look at what was found.
SOME_FAILED = 1
# The arguments or the file cannot be used, a setting is unknown, or `oathbulk.toml` cannot be read.
WRONG_USAGE = 2
# Configuration, files, or credentials are wrong, a server is out of reach, or another run is using the home.
UNUSABLE_SETUP = 3
# The batch is paused, or someone keeps back all of its rest: someone has to act.
WAITING_FOR_A_PERSON = 4
# For `status --check`: due work is stuck, or PingOne does not answer.
STALLED = 5
# Ctrl-C, or a signal; everything in hand is settled or handed back.
INTERRUPTED = 130
