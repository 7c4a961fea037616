"""The stages, in the order of the data: one thin class each, behind the contract that they share."""
