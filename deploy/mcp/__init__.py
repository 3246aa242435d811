"""Tools for language models: the methods that the contracts offer, called through the gateway like by anybody else."""
