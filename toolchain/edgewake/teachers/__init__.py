"""Teachers by name; importing this package does not import torch."""
