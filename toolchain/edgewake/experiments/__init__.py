"""Many trainings as one question: ablations, sweeps, comparisons, and the list of runs."""
