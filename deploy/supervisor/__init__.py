"""The local supervisor: one desired state, as data, and a daemon that keeps it true. `mesh.Mesh` is its door."""
