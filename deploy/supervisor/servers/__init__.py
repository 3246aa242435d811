"""One module per kind of process: binary -> argv, configuration, environment and probe. No module knows another."""
