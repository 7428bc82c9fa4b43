"""Real servers that tests start, stop and kill. Each lies in a directory of its own and is gone with the test run.

Begin with `server`, the class that all have in common. `simulator` runs our simulator of PingOne as a process,
`stand_in` is a second, tiny PingOne that shares no code with it.
"""
