package rpc

import (
	"context"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// Secrets keeps values that only functions read.
type Secrets interface {
	Set(ctx context.Context, name string, value []byte) (*wattlev1.Secret, error)
	List() []*wattlev1.Secret
	Delete(ctx context.Context, name string) error
}

type secretHandler struct{ s Secrets }

func (h *secretHandler) SetSecret(ctx context.Context, r *connect.Request[wattlev1.SetSecretRequest]) (*connect.Response[wattlev1.SetSecretResponse], error) {
	s, err := h.s.Set(ctx, r.Msg.Name, r.Msg.Value)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.SetSecretResponse{Secret: s}), nil
}

func (h *secretHandler) ListSecrets(context.Context, *connect.Request[wattlev1.ListSecretsRequest]) (*connect.Response[wattlev1.ListSecretsResponse], error) {
	return connect.NewResponse(&wattlev1.ListSecretsResponse{Secrets: h.s.List()}), nil
}

func (h *secretHandler) DeleteSecret(ctx context.Context, r *connect.Request[wattlev1.DeleteSecretRequest]) (*connect.Response[wattlev1.DeleteSecretResponse], error) {
	if err := h.s.Delete(ctx, r.Msg.Name); err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.DeleteSecretResponse{}), nil
}
