"""MeshService. Generated from the contracts by `make gen`; never edited."""

from collections.abc import AsyncIterator
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from weft.operations.v1 import mesh_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Mesh:
    """The mesh as a whole: what runs, who calls whom, how well, and what is wrong. What it is told comes from
        other parts; where one of them does not answer, that part of the answer says so, and the rest is as true
        as ever.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, mesh_pb2.DESCRIPTOR.services_by_name["MeshService"])

    def get_mesh(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mesh_pb2.Mesh:
        """Reads the mesh as it is now; what it shows is no older than two seconds.

        name: The mesh to read: `meshes/local`, the one that answers.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"name": name}
        answer: mesh_pb2.Mesh = self._calls.call("GetMesh", fields, timeout=timeout)
        return answer

    def watch_mesh(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> Iterator[mesh_pb2.WatchMeshResponse]:
        """Sends the mesh at once, and again every second.

        name: The mesh to watch: `meshes/local`, the one that answers.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"name": name}
        answer: Iterator[mesh_pb2.WatchMeshResponse] = self._calls.stream("WatchMesh", fields, timeout=timeout)
        return answer

    def restart_process(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mesh_pb2.Process:
        """Has a process stopped in an orderly way and started again. Answers once the supervisor has taken it on,
        with the process as it is then; what becomes of it is told by WatchMesh.

        name: The process to restart, `processes/{process}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProcessNotFound: no process has this name
            SupervisorRefused: the supervisor does not do it now; the message says why
            SourceUnavailable: no supervisor answers
        """
        fields = {"name": name}
        answer: mesh_pb2.Process = self._calls.call("RestartProcess", fields, timeout=timeout)
        return answer

    def kill_process(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mesh_pb2.Process:
        """Ends a process at once, by SIGKILL, to see that nobody notices. The supervisor starts it again.

        name: The process to end, `processes/{process}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProcessNotFound: no process has this name
            SupervisorRefused: the supervisor does not do it now; the message says why
            SourceUnavailable: no supervisor answers
        """
        fields = {"name": name}
        answer: mesh_pb2.Process = self._calls.call("KillProcess", fields, timeout=timeout)
        return answer

    def scale_service(
        self,
        name: str,
        *,
        size: int | None = None,
        bounds: mesh_pb2.SizeBounds | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> mesh_pb2.Service:
        """Wants another number of instances of a service, or lets its load say how many. Answers once the
        supervisor has taken it on; instances come and go as WatchMesh tells.

        name: The service to size, `services/{service}`.
        size: So many.
        bounds: As many as its load asks for, within these bounds; both 0: the usual ones.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ServiceNotFound: no service has this name
            SupervisorRefused: the supervisor does not do it now, or not with this number; the message says why
            SourceUnavailable: no supervisor answers
        """
        fields = {"name": name, "size": size, "bounds": bounds}
        answer: mesh_pb2.Service = self._calls.call("ScaleService", fields, timeout=timeout)
        return answer

    def roll_service(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mesh_pb2.Service:
        """Has every instance of a service replaced by a new process, one after another. Answers once the
        supervisor has taken it on; `Service.rolling` tells when it is done.

        name: The service whose instances are to be replaced, `services/{service}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ServiceNotFound: no service has this name
            SupervisorRefused: the supervisor does not do it now; the message says why
            SourceUnavailable: no supervisor answers
        """
        fields = {"name": name}
        answer: mesh_pb2.Service = self._calls.call("RollService", fields, timeout=timeout)
        return answer


class AsyncMesh:
    """The mesh as a whole: what runs, who calls whom, how well, and what is wrong. What it is told comes from
        other parts; where one of them does not answer, that part of the answer says so, and the rest is as true
        as ever.
    """

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, mesh_pb2.DESCRIPTOR.services_by_name["MeshService"])

    async def get_mesh(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mesh_pb2.Mesh:
        """Reads the mesh as it is now; what it shows is no older than two seconds.

        name: The mesh to read: `meshes/local`, the one that answers.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"name": name}
        answer: mesh_pb2.Mesh = await self._calls.call("GetMesh", fields, timeout=timeout)
        return answer

    def watch_mesh(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[mesh_pb2.WatchMeshResponse]:
        """Sends the mesh at once, and again every second.

        name: The mesh to watch: `meshes/local`, the one that answers.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"name": name}
        answer: AsyncIterator[mesh_pb2.WatchMeshResponse] = self._calls.stream("WatchMesh", fields, timeout=timeout)
        return answer

    async def restart_process(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mesh_pb2.Process:
        """Has a process stopped in an orderly way and started again. Answers once the supervisor has taken it on,
        with the process as it is then; what becomes of it is told by WatchMesh.

        name: The process to restart, `processes/{process}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProcessNotFound: no process has this name
            SupervisorRefused: the supervisor does not do it now; the message says why
            SourceUnavailable: no supervisor answers
        """
        fields = {"name": name}
        answer: mesh_pb2.Process = await self._calls.call("RestartProcess", fields, timeout=timeout)
        return answer

    async def kill_process(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mesh_pb2.Process:
        """Ends a process at once, by SIGKILL, to see that nobody notices. The supervisor starts it again.

        name: The process to end, `processes/{process}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProcessNotFound: no process has this name
            SupervisorRefused: the supervisor does not do it now; the message says why
            SourceUnavailable: no supervisor answers
        """
        fields = {"name": name}
        answer: mesh_pb2.Process = await self._calls.call("KillProcess", fields, timeout=timeout)
        return answer

    async def scale_service(
        self,
        name: str,
        *,
        size: int | None = None,
        bounds: mesh_pb2.SizeBounds | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> mesh_pb2.Service:
        """Wants another number of instances of a service, or lets its load say how many. Answers once the
        supervisor has taken it on; instances come and go as WatchMesh tells.

        name: The service to size, `services/{service}`.
        size: So many.
        bounds: As many as its load asks for, within these bounds; both 0: the usual ones.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ServiceNotFound: no service has this name
            SupervisorRefused: the supervisor does not do it now, or not with this number; the message says why
            SourceUnavailable: no supervisor answers
        """
        fields = {"name": name, "size": size, "bounds": bounds}
        answer: mesh_pb2.Service = await self._calls.call("ScaleService", fields, timeout=timeout)
        return answer

    async def roll_service(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mesh_pb2.Service:
        """Has every instance of a service replaced by a new process, one after another. Answers once the
        supervisor has taken it on; `Service.rolling` tells when it is done.

        name: The service whose instances are to be replaced, `services/{service}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ServiceNotFound: no service has this name
            SupervisorRefused: the supervisor does not do it now; the message says why
            SourceUnavailable: no supervisor answers
        """
        fields = {"name": name}
        answer: mesh_pb2.Service = await self._calls.call("RollService", fields, timeout=timeout)
        return answer
