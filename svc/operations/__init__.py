"""The operations service: what people who look after the mesh see of it and do to it, and the console's pages."""
