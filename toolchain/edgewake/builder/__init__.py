"""`edgewake build`: a model folder or a training run in, a checked ESP-IDF project out."""
