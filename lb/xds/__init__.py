"""The control plane: resources, snapshots, and the protocol that carries them to Envoy and to gRPC clients."""
