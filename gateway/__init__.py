"""The gateway compiler: contracts in, Envoy's and gRPC's resources out. Run as `python -m gateway`."""
