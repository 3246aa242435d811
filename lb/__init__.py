"""Who is alive, and how to reach them: the registry in etcd, the xDS control plane, and channels over it."""
