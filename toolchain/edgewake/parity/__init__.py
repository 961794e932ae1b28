"""The ladder of equalities between what was trained, what is tested, and what the board computes."""
