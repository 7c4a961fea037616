"""The networks, behind one contract. Training and embedding know the contract alone.

A network is a module of its own with a `Model`, and its entry in the table of `registry`. The parts, in the order of
their imports:

- `network`: what a network states of itself without torch
- `registry`: the table of the networks by name
- `model`: the torch half of the contract
- `ainerd2024`: the published network
- `weights`: models are built, initialised, loaded and saved
- `embedding`: maps to latents, and latents to maps
"""
