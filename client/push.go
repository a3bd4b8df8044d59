package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

const chunkBytes = 1 << 20

// PushOptions say how a module is published. The zero value takes the next version number and sets no alias.
type PushOptions struct {
	Version        uint64
	Aliases        []string
	Limits         *wattlev1.Limits
	FunctionLimits map[string]*wattlev1.Limits
	// Fresh runs each call in an instance made for it.
	Fresh bool
	// Capabilities are what the functions may do beyond computing.
	Capabilities *wattlev1.Capabilities
	// Progress is called with the bytes sent so far.
	Progress func(sent, total int64)
}

// Push uploads a module and publishes it as a version of a service. Bytes the node has are not sent again, so that pushing
// once more after an interruption goes on where it stopped. created is false if the version was there.
func (c *Client) Push(ctx context.Context, service string, wasm []byte, o PushOptions) (version *wattlev1.Version, created bool, err error) {
	err = c.retry(ctx, func() error {
		name, err := c.upload(ctx, wasm, o.Progress)
		if err != nil {
			return err
		}
		v, err := c.Registry.CreateVersion(ctx, connect.NewRequest(&wattlev1.CreateVersionRequest{
			Service: service, Digest: name, Number: o.Version, Aliases: o.Aliases, Limits: o.Limits, FunctionLimits: o.FunctionLimits,
			Fresh: o.Fresh, Capabilities: o.Capabilities,
		}))
		if err != nil {
			return err
		}
		version, created = v.Msg.Version, v.Msg.Created
		return nil
	})
	return version, created, err
}

// upload sends what the node does not have of some bytes, and returns their digest.
func (c *Client) upload(ctx context.Context, data []byte, progress func(sent, total int64)) (name string, err error) {
	sum := sha256.Sum256(data)
	name = "sha256-" + hex.EncodeToString(sum[:])
	var chunks [][]byte
	for at := 0; at < len(data); at += chunkBytes {
		s := sha256.Sum256(data[at:min(at+chunkBytes, len(data))])
		chunks = append(chunks, s[:])
	}
	res, err := c.Registry.StartUpload(ctx, connect.NewRequest(&wattlev1.StartUploadRequest{Digest: name, Size: uint64(len(data)), Chunks: chunks}))
	if err != nil {
		return "", err
	}
	total := int64(len(data))
	sent := max(total-int64(len(res.Msg.Missing))*chunkBytes, 0)
	for _, i := range res.Msg.Missing {
		part := data[int(i)*chunkBytes : min((int(i)+1)*chunkBytes, len(data))]
		if _, err := c.Registry.UploadChunk(ctx, connect.NewRequest(&wattlev1.UploadChunkRequest{Digest: name, Index: i, Data: part})); err != nil {
			return "", err
		}
		sent = min(sent+int64(len(part)), total)
		if progress != nil {
			progress(sent, total)
		}
	}
	return name, nil
}
