"""What is read out of the database for a person: how a batch stands, and its records as a file."""
