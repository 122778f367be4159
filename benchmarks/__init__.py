"""The rows of the performance table: what extsession costs, beside its peers and the physical limits.

`python -m benchmarks`. Each row is timed in interleaved rounds with what it is compared with; only ratios of one
run mean anything. `README.md` says what each row compares.
"""
