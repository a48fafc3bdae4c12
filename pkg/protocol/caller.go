package protocol

import "context"

type nodeKey struct{}

// WithNode notes in a request's context which node sent it, as its client
// certificate says. Only pkg/joinapi calls it.
func WithNode(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, nodeKey{}, name)
}

// NodeFrom is the node that sent a request; empty when it was none.
func NodeFrom(ctx context.Context) string {
	name, _ := ctx.Value(nodeKey{}).(string)
	return name
}
