"""What runs a model: frontend, pipeline, interpreter, integer simulator and `Detector`; no training."""
