"""What a person sees of the work while it runs: logs, and outside text made safe to show. Imports nothing of ours.
Begin with `logs`; `wording` is for everything else that prints, and `progress` is how long work reports its
progress."""
