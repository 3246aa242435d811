"""The orders service: stock, and the orders that take pieces from it."""
