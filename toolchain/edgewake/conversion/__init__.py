"""From the deploy form to what the board runs; each stage writes a file, and a record of how it was made."""
