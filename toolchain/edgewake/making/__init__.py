"""`edgewake make`: from the folder of a wake word to firmware and a report."""
