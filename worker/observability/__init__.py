"""What a person sees of the work while it runs."""
