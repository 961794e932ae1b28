"""From the deploy form to what the board runs; each stage writes a file and says how it was made."""
