"""The sinks of a mesh without outside help: traces, mail, and Prometheus' alert rules. Each sink is a process."""
