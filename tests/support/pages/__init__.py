"""The pages of the documentation, as those who check them read them: what stands there to be typed, what is shown of
what a command prints, and what leads elsewhere."""
