"""The contracts as pages to read: reference, policies, errors and examples, from the descriptor set alone."""
