"""The desired state for Kubernetes: objects of each workload, and the kustomizations that apply them in order."""
