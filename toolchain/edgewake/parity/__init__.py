"""Parity checks between what was trained, what is tested on a host, and what the board computes."""
