// Package kubeapi sends requests to a Kubernetes API server, without client-go: the suite needs few of them, and none
// of its types.
//
// Run its tests: go test ./e2e/internal/kubeapi
package kubeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Client sends requests. Its methods may be called concurrently.
type Client struct {
	// HTTP sends them; its Timeout limits those whose caller sets no limit.
	HTTP *http.Client
	// URL is where the API server is, without a path.
	URL string
	// Token is a bearer token; empty means none.
	Token string
}

// Object is a Kubernetes object of any kind.
type Object = map[string]any

// Refusal is an answer of the API server other than success.
type Refusal struct {
	Method, Path string
	Status       int
	Message      string
}

// Error returns the request, the status and the API server's words.
func (e *Refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s: %d %s", e.Method, e.Path, e.Status, e.Message))
}

// IsStatus reports whether an error is an answer with a status.
func IsStatus(err error, status int) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Status == status
}

// Refused reports whether an error is an answer that stays the same if the request is repeated; 408 and 429 ask for a
// repetition.
func Refused(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Status >= 400 && r.Status < 500 && r.Status != http.StatusRequestTimeout &&
		r.Status != http.StatusTooManyRequests
}

// Do makes a request; body and reply may be nil. An answer that is no success is a *Refusal.
func (c *Client) Do(ctx context.Context, method, path string, body, reply any) error {
	var text io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, text)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	answer, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		var status struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(data, &status) != nil || status.Message == "" {
			status.Message = strings.TrimSpace(string(data))
		}
		return &Refusal{method, path, answer.StatusCode, status.Message}
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(data, reply)
}

// Get reads an object or a list; reply may be nil.
func (c *Client) Get(ctx context.Context, path string, reply any) error {
	return c.Do(ctx, http.MethodGet, path, nil, reply)
}

// Create makes an object; reply may be nil.
func (c *Client) Create(ctx context.Context, path string, o, reply any) error {
	return c.Do(ctx, http.MethodPost, path, o, reply)
}

// Patch merges a change into an object; null deletes a field (RFC 7396).
func (c *Client) Patch(ctx context.Context, path string, change Object) error {
	return c.Do(ctx, http.MethodPatch, path, change, nil)
}

// Remove deletes an object. It is no error if the object does not exist.
func (c *Client) Remove(ctx context.Context, path string) error {
	if err := c.Do(ctx, http.MethodDelete, path, nil, nil); err != nil && !IsStatus(err, http.StatusNotFound) {
		return err
	}
	return nil
}
