"""What instances and control planes tell each other through etcd."""
