"""The science as pure functions: arrays in, arrays out, inputs never written."""
