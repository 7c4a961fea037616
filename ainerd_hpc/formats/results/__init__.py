"""Results of other programs, and of ours: two-time maps to read, correlations to write."""
