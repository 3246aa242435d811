"""What Weft claims of its cost, measured: one module for each claim, each runnable alone, all of them by `make bench`.

Costs are CPU, read from /proc, because wall time on a shared machine says little; both sides of a ratio are measured in
turns in one run, and the run is worth what its calibration is.
"""
