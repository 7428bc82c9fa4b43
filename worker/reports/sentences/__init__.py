"""What was read of batches and tokens, said to a person in sentences: the terminal and the desk say the same.

Begin with `outlook` (what will become of a batch) or `next_step` (what happens to a token next). Pure, but for the time
that passes.
"""
