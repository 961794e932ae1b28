"""The page: a panel each for the phrase, the configuration, training, trying a model, and firmware."""
