"""How the weights that `lag_age` comes with were made: `python -m ainerd_hpc.pretraining FILE`.

The network sees maps of simulated dynamics only. In the order of the work:

- `compositions`: dynamics that nobody named, put together by chance
- `samples`: cells of simulated windows, beside the cells that their g1 says
- `learning`: the loss, the noise that is added, the epochs
"""
