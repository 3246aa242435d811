"""A load on the running mesh, and what its callers saw.

`tally` counts, `shop` prepares, `traffic` calls, `watches` keeps streams open, `run.UnderLoad` puts them together for
`weft roll`, `weft kill` and `weft scale`.
"""
