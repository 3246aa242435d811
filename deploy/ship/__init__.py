"""The desired state in two more forms, for compose and for Kubernetes: `weft export`.

`workload.py` says what one part is, `ours.py` and `servers.py` which there are, `addresses.py` where they find each
other in either form. `compose.py` and `kubernetes` write them down. What a service or a worker is called, how many of
it there are and between which bounds its load decides come from `supervisor.desired`, so that nothing is said twice.
"""
