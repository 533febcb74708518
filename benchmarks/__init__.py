"""The benchmarks: PyUnion beside its peers, on the same work in one run.

    make bench                                  all of it; see `python -m benchmarks --help`

`subjects` says what is compared and how each is mounted, `layers` what they are
mounted over, `workloads` what is done on them, `runner` in which order, and
`results`, `report` and `chart` what becomes of the figures.  Not installed, and
nothing of the product imports it.
"""
