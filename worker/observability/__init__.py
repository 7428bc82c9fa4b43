"""What a person sees of the work while it runs: logs, and how text from outside is made safe to show.

Imports nothing of ours.
Begin with `logs`; `wording` is for whatever else prints, and `progress` is how long work tells how far it is.
"""
