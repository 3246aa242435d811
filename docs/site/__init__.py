"""The documents as a static site: gathered, generated where the contracts and the command line say it, and built."""
