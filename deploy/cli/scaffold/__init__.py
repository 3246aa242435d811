"""Makes the files of a new service: what it may be called, the templates, and the tools that finish them."""
