"""The compiler's back end: effective policies become typed Envoy and gRPC xDS messages."""
