package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// fetchTimeout bounds a request to a server on the agent's own node.
const fetchTimeout = 5 * time.Second

// Fetch returns the answer of a server on the node to a GET of a URL.
func (s *Server) Fetch(url string, body *string) error {
	client := http.Client{Timeout: fetchTimeout}
	reply, err := client.Get(url)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	data, err := io.ReadAll(reply.Body)
	if err != nil {
		return err
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, reply.Status)
	}
	*body = string(data)
	return nil
}

// Fetch returns the answer of a server on the node to a GET of a URL.
func (c *Client) Fetch(ctx context.Context, url string) (string, error) {
	return call[string](ctx, c, "Fetch", url)
}

// ResolveArgs describe a question to a DNS server from a namespace.
type ResolveArgs struct {
	Netns string `json:"netns"`
	// Server is its address. Name is the name to resolve, with a dot at its end.
	Server string `json:"server"`
	Name   string `json:"name"`
}

// Resolve returns the addresses of a name.
func (s *Server) Resolve(args ResolveArgs, addresses *[]string) error {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (conn net.Conn,
		err error,
	) {
		// A socket belongs to the namespace of the thread that made it.
		err = inNamespace(args.Netns, func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(args.Server, "53"))
			return err
		})
		return conn, err
	}}
	found, err := resolver.LookupHost(ctx, args.Name)
	*addresses = found
	return err
}

// Resolve returns the addresses of a name.
func (c *Client) Resolve(ctx context.Context, args ResolveArgs) ([]string, error) {
	return call[[]string](ctx, c, "Resolve", args)
}
