"""What a chip allows: memory, operators, alignment, cost; and the firmware that runs a model on it."""
