"""Fits of g2 and of what follows from it: KWW decays, the power law of tau."""
