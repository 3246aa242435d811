package mesh

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Trace sends the process's spans to the collector and W3C trace context to whom it calls. Call `end` at the end: it
// sends the last spans.
func Trace(service, instance, collector string) (end func(context.Context) error, err error) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	if collector == "" {
		return func(context.Context) error { return nil }, nil
	}
	exporter, err := otlptracegrpc.New(
		context.Background(),
		otlptracegrpc.WithEndpoint(strings.TrimPrefix(collector, "http://")),
		otlptracegrpc.WithInsecure(),
	)
	if err != nil {
		return nil, err
	}
	described := resource.NewSchemaless(
		attribute.String("service.namespace", "weft"),
		attribute.String("service.name", service),
		attribute.String("service.instance.id", instance),
	)
	// Whether a trace is kept is decided where it begins, and obeyed by everyone below.
	provider := trace.NewTracerProvider(
		trace.WithBatcher(exporter),
		trace.WithResource(described),
		trace.WithSampler(trace.ParentBased(trace.AlwaysSample())),
	)
	otel.SetTracerProvider(provider)
	return provider.Shutdown, nil
}
