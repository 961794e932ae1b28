"""The second backend: a streaming int8 .tflite as plain C99, for the board and, compiled, for the host."""
