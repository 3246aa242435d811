"""ContractService. Generated from the contracts by `make gen`; never edited."""

from weft.operations.v1 import contracts_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Contract:
    """The contracts that this mesh obeys."""

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, contracts_pb2.DESCRIPTOR.services_by_name["ContractService"])

    def list_methods(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> contracts_pb2.ListMethodsResponse:
        """Lists every method with what holds for it, by name.

        page_size: The most methods in one page; 0: 200. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: contracts_pb2.ListMethodsResponse = self._calls.call("ListMethods", fields, timeout=timeout)
        return answer

    def get_method(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> contracts_pb2.Method:
        """Reads one method.

        name: The method to read, `methods/{method}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            MethodNotFound: no contract has this method
        """
        fields = {"name": name}
        answer: contracts_pb2.Method = self._calls.call("GetMethod", fields, timeout=timeout)
        return answer

    def get_schema(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> contracts_pb2.Schema:
        """Reads the contracts themselves, in the form that protobuf libraries of any language make messages and
        forms from.

        name: The contracts to read: `schemas/current`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"name": name}
        answer: contracts_pb2.Schema = self._calls.call("GetSchema", fields, timeout=timeout)
        return answer


class AsyncContract:
    """The contracts that this mesh obeys."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, contracts_pb2.DESCRIPTOR.services_by_name["ContractService"])

    async def list_methods(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> contracts_pb2.ListMethodsResponse:
        """Lists every method with what holds for it, by name.

        page_size: The most methods in one page; 0: 200. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: contracts_pb2.ListMethodsResponse = await self._calls.call("ListMethods", fields, timeout=timeout)
        return answer

    async def get_method(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> contracts_pb2.Method:
        """Reads one method.

        name: The method to read, `methods/{method}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            MethodNotFound: no contract has this method
        """
        fields = {"name": name}
        answer: contracts_pb2.Method = await self._calls.call("GetMethod", fields, timeout=timeout)
        return answer

    async def get_schema(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> contracts_pb2.Schema:
        """Reads the contracts themselves, in the form that protobuf libraries of any language make messages and
        forms from.

        name: The contracts to read: `schemas/current`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"name": name}
        answer: contracts_pb2.Schema = await self._calls.call("GetSchema", fields, timeout=timeout)
        return answer
