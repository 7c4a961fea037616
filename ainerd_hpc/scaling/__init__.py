"""What the work costs: how fast this machine is, and the seconds of every task that follow from it."""
