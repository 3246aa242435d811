"""Consumer contract tests: any service mocked from its contract, records of what was asked of it, and their replay."""
