package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// fetchTimeout bounds a request to what runs on the agent's own node.
const fetchTimeout = 5 * time.Second

// Fetch gets what a server on the node answers to a GET of a URL.
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

// Fetch gets what a server on the node answers to a GET of a URL.
func (c *Client) Fetch(ctx context.Context, url string) (string, error) {
	return call[string](ctx, c, "Fetch", url)
}
