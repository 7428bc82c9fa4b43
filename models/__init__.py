"""What we know: the tables and the words for their states."""
