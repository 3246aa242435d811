"""A recording of a terminal as one animated picture: commands on a running mesh, played by CSS alone."""
