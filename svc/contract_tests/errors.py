"""What a contract test fails with."""


class ContractTestError(AssertionError):
    """The test, the consumer or the provider does not keep to the contract; the message says how."""
