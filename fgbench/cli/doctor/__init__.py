"""``fgbench doctor``: what works on this machine, tried, and the command that mends what does not."""
