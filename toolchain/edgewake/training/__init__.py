"""The student learns here: clips, batches, loop, quantization in the loop, mining and the run as a whole."""
