"""Where Weft runs: the local supervisor, the `weft` command, the sinks. Runs the other parts, imports none."""
