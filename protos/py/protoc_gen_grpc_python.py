"""protoc plugin for gRPC's Python stubs; buf runs it because it has no built-in of that name.

Reads a CodeGeneratorRequest from standard input, hands its files to grpcio-tools' own generator, and writes the
CodeGeneratorResponse to standard output.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def main() -> None:
    """Generate `*_pb2_grpc.py` for every requested file that declares a service."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    wanted = {file.name for file in request.proto_file if file.service} & set(request.file_to_generate)
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        descriptors = folder / "in.binpb"
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        arguments = ["protoc", f"--descriptor_set_in={descriptors}", f"--grpc_python_out={folder}", *sorted(wanted)]
        if wanted and protoc.main(arguments) != 0:
            sys.exit("protoc-gen-grpc-python: grpcio-tools refused the descriptors; see the lines above")
        for path in sorted(folder.rglob("*_pb2_grpc.py")):
            response.file.add(name=str(path.relative_to(folder)), content=path.read_text())
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
