"""Objects of KEDA and cert-manager that Weft writes, as strict models: their schemas are in no package registry.

What is here is what their references document for the versions `keda.sh/v1alpha1` and `cert-manager.io/v1`, as far as
Weft uses it; whatever else is written, or of another type, is refused.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

GoDuration = Annotated[str, Field(pattern=r"^[0-9]+h$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: Name
    namespace: Name
    labels: dict[str, str] = {}


class TargetRef(Strict):
    apiVersion: Literal["apps/v1"]  # noqa: N815 - the name is Kubernetes'
    kind: Literal["Deployment"]
    name: Name


class PrometheusQuery(Strict):
    serverAddress: Annotated[str, Field(pattern=r"^http://[a-z.]+:[0-9]+$")]  # noqa: N815
    query: Annotated[str, Field(min_length=1)]
    # The scaler reads text; a number is refused by its webhook.
    threshold: Annotated[str, Field(pattern=r"^[0-9]+$")]


class Trigger(Strict):
    type: Literal["prometheus"]
    metadata: PrometheusQuery


class Fallback(Strict):
    failureThreshold: Annotated[int, Field(ge=0)]  # noqa: N815
    replicas: Annotated[int, Field(ge=0)]


class AutoscalerConfig(Strict):
    behavior: dict[str, Any]
    """Of autoscaling/v2: the test holds it against that schema."""


class Advanced(Strict):
    horizontalPodAutoscalerConfig: AutoscalerConfig  # noqa: N815


class ScaledObjectSpec(Strict):
    scaleTargetRef: TargetRef  # noqa: N815
    minReplicaCount: Annotated[int, Field(ge=0)]  # noqa: N815
    maxReplicaCount: Annotated[int, Field(ge=1)]  # noqa: N815
    pollingInterval: Annotated[int, Field(ge=1)]  # noqa: N815
    fallback: Fallback
    advanced: Advanced
    triggers: Annotated[list[Trigger], Field(min_length=1)]


class ScaledObject(Strict):
    apiVersion: Literal["keda.sh/v1alpha1"]  # noqa: N815
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


class CaSource(Strict):
    secretName: Name  # noqa: N815


class SelfSigned(Strict):
    pass


class IssuerSpec(Strict):
    selfSigned: SelfSigned | None = None  # noqa: N815
    ca: CaSource | None = None


class Issuer(Strict):
    apiVersion: Literal["cert-manager.io/v1"]  # noqa: N815
    kind: Literal["Issuer"]
    metadata: Metadata
    spec: IssuerSpec


class PrivateKey(Strict):
    algorithm: Literal["ECDSA"]
    size: Literal[256, 384, 521]
    rotationPolicy: Literal["Always", "Never"]  # noqa: N815


class IssuerRef(Strict):
    name: Name
    kind: Literal["Issuer", "ClusterIssuer"]


class CertificateSpec(Strict):
    secretName: Name  # noqa: N815
    commonName: Annotated[str, Field(max_length=64)] | None = None  # noqa: N815
    dnsNames: list[Name] = []  # noqa: N815
    uris: list[Annotated[str, Field(pattern=r"^spiffe://weft/[a-z-]+/[a-z0-9-]+$")]] = []
    isCA: bool = False  # noqa: N815
    usages: list[Literal["cert sign", "crl sign", "server auth", "client auth"]]
    duration: GoDuration
    renewBefore: GoDuration  # noqa: N815
    privateKey: PrivateKey  # noqa: N815
    issuerRef: IssuerRef  # noqa: N815


class Certificate(Strict):
    apiVersion: Literal["cert-manager.io/v1"]  # noqa: N815
    kind: Literal["Certificate"]
    metadata: Metadata
    spec: CertificateSpec


KINDS: dict[str, type[Strict]] = {"ScaledObject": ScaledObject, "Issuer": Issuer, "Certificate": Certificate}
