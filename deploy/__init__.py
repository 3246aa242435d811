"""Where Weft runs: the supervisor, the command line, the sinks. Imports no other part; runs them as processes."""
